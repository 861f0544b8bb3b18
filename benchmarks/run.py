"""Run benchmarks by name, or all of them; finished cells are kept in ``results/`` and skipped.

python benchmarks/run.py all|dev|trained-dev|whole-dev|priors|final|whole|trained|tail|foreign|forecast-dev|forecast-priors|forecast|suggest|label|pretrain|distill|demo|budget|parity|kill|planted|pool|speed|augment|tables --data DIR
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STEPS: dict[str, list[str]] = {
    "dev": ["ladder.py", "dev", "--data", "{data}"],
    "trained-dev": ["trained.py", "dev", "--data", "{data}"],
    "whole-dev": ["whole.py", "dev", "--budget", "8m", "--data", "{data}"],
    "priors": ["priors.py"],
    "final": ["ladder.py", "final", "--data", "{data}"],
    "whole": ["whole.py", "final", "--budget", "8m", "--data", "{data}"],
    "trained": ["trained.py", "final", "--data", "{data}"],
    "tail": ["trained.py", "tail", "--data", "{data}"],
    "foreign": ["trained.py", "foreign", "--data", "{data}"],
    "forecast-dev": ["forecast.py", "dev", "--data", "{data}"],
    "forecast-priors": ["forecast.py", "priors", "--data", "{data}"],
    "forecast": ["forecast.py", "final", "--data", "{data}"],
    "suggest": ["suggest.py", "final", "--data", "{data}"],
    "label": ["label.py", "final", "--data", "{data}"],
    "pretrain": ["pretrain.py", "final", "--data", "{data}"],
    "distill": ["distill.py", "final", "--data", "{data}"],
    "demo": ["demo.py"],
    "budget": ["budget.py", "--data", "{data}"],
    "parity": ["onnx_parity.py", "--data", "{data}"],
    "kill": ["kill_resume.py", "--data", "{data}"],
    "planted": ["planted.py", "--data", "{data}"],
    "pool": ["large_pool.py"],
    "speed": ["embed_speed.py", "{data}/ucmerced", "--out", str(HERE / "results" / "embed_speed.json")],
    "augment": ["augment_speed.py", "--out", str(HERE / "results" / "augment_speed.json")],
    "tables": ["tables.py"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["all", *STEPS], nargs="?", default="all")
    default = os.environ.get("FALLOW_BENCH_DATA", ".data")
    parser.add_argument(
        "--data", default=default, help="folder with the data sets [FALLOW_BENCH_DATA, else .data]"
    )
    options = parser.parse_args()
    for name in STEPS if options.what == "all" else [options.what]:
        step = [part.format(data=options.data) for part in STEPS[name]]
        print(f"== {name}", flush=True)
        if name == "tables":
            made = subprocess.run(
                [sys.executable, HERE / step[0]], check=True, capture_output=True, text=True
            )
            (HERE / "TABLES.md").write_text(made.stdout, encoding="utf-8")
            continue
        subprocess.run([sys.executable, HERE / step[0], *step[1:]], check=True)


if __name__ == "__main__":
    main()
