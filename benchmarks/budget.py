"""Is the budget kept? Whole runs (`fallow train`, report and all) with an empty cache, and again with a warm one.

    python benchmarks/budget.py --data DIR

Each run is a process of its own; ``seconds`` is what the run says of itself (from the start of the process), ``wall`` is
what a clock beside it says.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from protocol import draw, load

RESULTS = Path(__file__).parent / "results" / "budget.json"
RUNS = (
    ("digits", 2, None, ("30s",)),
    ("ucmerced", 5, None, ("1m",)),
    ("cifar10", 25, 10_000, ("2m",)),
    ("clothing", 5, None, ("1m",)),
    ("ucmerced", 5, None, ("6m",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data.resolve()
    rows = []
    for name, per_class, pool, budgets in RUNS:
        drawn = draw(load(name, data), per_class, 0, "dev", pool=pool)
        for budget in budgets:
            with tempfile.TemporaryDirectory() as work:
                drawn.write_csv(Path(work, "data.csv"))
                for cache in ("empty", "warm"):
                    out = Path(work, cache)
                    command = [
                        sys.executable,
                        "-m",
                        "fallow",
                        "train",
                        f"{work}/data.csv",
                        "--budget",
                        budget,
                    ]
                    command += ["--out", str(out), "--offline", "--json"]
                    started = time.monotonic()
                    done = subprocess.run(
                        command,
                        check=True,
                        capture_output=True,
                        text=True,
                        env={**os.environ, "FALLOW_CACHE": f"{work}/cache"},
                    )
                    wall = time.monotonic() - started
                    result = json.loads(done.stdout)
                    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))["spaces"]
                    rows.append(
                        {
                            "data": name,
                            "budget": budget,
                            "cache": cache,
                            "wall": round(wall, 1),
                            "seconds": round(result["seconds"], 1),
                            "chosen": result["chosen"]["rung"],
                            "test": result["chosen"]["test"],
                            "views": plan["views"],
                            "pool": plan["pool"],
                            "images": result["counts"],
                        }
                    )
                    print(rows[-1], flush=True)
                    RESULTS.parent.mkdir(exist_ok=True)
                    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
