"""The demo over ten seeds, each in a process of its own: accuracy and time.

python benchmarks/demo.py [--seeds 100-109]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "demo.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="100-109")
    first, _, last = parser.parse_args().seeds.partition("-")
    rows = []
    for seed in range(int(first), int(last or first) + 1):
        with tempfile.TemporaryDirectory() as work:
            command = [
                sys.executable,
                "-m",
                "fallow",
                "demo",
                "--seed",
                str(seed),
                "--out",
                f"{work}/demo",
                "--json",
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        result = json.loads(done.stdout)
        rows.append(
            {
                "seed": seed,
                "labels_only": result["labels_only"]["test"],
                "chosen": result["chosen"]["test"],
                "rung": result["chosen"]["rung"],
                "seconds": round(result["seconds"], 1),
            }
        )
        print(rows[-1], flush=True)
    mean = {
        name: round(float(np.mean([r[name] for r in rows])), 4)
        for name in ("labels_only", "chosen", "seconds")
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"mean": mean, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(mean)


if __name__ == "__main__":
    main()
