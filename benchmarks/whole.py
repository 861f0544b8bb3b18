"""Whole runs measured: everything `fallow train` does on one draw, and what it chose beside what it could have chosen.

    python benchmarks/whole.py SUITE --data DIR [--budget 30m] [--seeds 100-104] [--only ucmerced] [--set optimization.steps=50]

Suites: ``dev`` (development splits, seeds 0-4: what the chooser is looked at on), ``final`` (the final split, seeds 100-104: UC
Merced, 5 and 10 labels a class). The chooser's prior leaves out the cell's own data set. After the choice every rung's final
model is scored on the test images. A row holds what the chooser saw of every pair of rungs (mean paired difference on held-out
labels and its variance), so that other ways to choose can be tried without training anything again (``choice.py``). Cells
that are in ``results/whole-<suite>.jsonl`` already are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from protocol import RESULTS, Known, draw, load, read_rows, seeds_of, suite_parser
from trained import tested

POOL = {"cifar10": 3000, "fashion": 3000}
"""What a CPU can train on in minutes."""


@dataclass(frozen=True)
class Cell:
    """One draw of labels and pool."""

    data: str
    per_class: int
    seed: int
    split: str

    def key(self, budget: str) -> str:
        return f"{self.split}/{self.data}/{self.per_class}/{budget}/{self.seed}"


def dev_cells(seeds: list[int]) -> Iterator[Cell]:
    for seed in seeds:
        for data, counts in (
            ("digits", (4, 10)),
            ("ucmerced", (5, 10)),
            ("clothing", (5, 20)),
            ("fashion", (4, 20)),
            ("cifar10", (4, 25)),
        ):
            for k in counts:
                yield Cell(data, k, seed, "dev")


def final_cells(seeds: list[int]) -> Iterator[Cell]:
    for seed in seeds:
        for k in (5, 10):
            yield Cell("ucmerced", k, seed, "final")


SUITES: dict[str, tuple[Any, range]] = {
    "dev": (dev_cells, range(5)),
    "final": (final_cells, range(100, 105)),
}


def climb(cell: Cell, known: Known, budget: str, pinned: list[str], work: Path) -> dict[str, Any]:
    """Climb the whole ladder on one draw and return the row."""
    from fallow.config import TrainConfig, build, merge, parse_set
    from fallow.data import open_source
    from fallow.record import RunDir, write_json
    from fallow.study import Clock, Study, both_ways, paired

    table = work / "data.csv"
    draw(known, cell.per_class, cell.seed, cell.split, pool=POOL.get(cell.data)).write_csv(table)
    asked = {"budget": budget, "seed": cell.seed, "offline": True}
    config = build(TrainConfig, merge(parse_set(pinned), asked))
    run = RunDir.create(work / "run")
    write_json(run.path / "request.json", {"data": str(table), "config": {}})
    clock = Clock(config.seconds)
    study = Study(open_source(table), config, run, clock, without_prior=cell.data)
    ctx, best = study.rise()
    climbed = round(clock.elapsed, 1)
    tests = {name: tested(ctx, candidate) for name, candidate in study.finals.items()}
    pairs: dict[str, Any] = {}
    for low, high in combinations(study.finals, 2):
        where, correct = study.evidence.correct((high, low))
        ways = both_ways(study.weights(where)) if len(where) else ()
        seen = [paired(correct[high], correct[low], way) for way in ways]
        pairs[f"{high} over {low}"] = [[round(p.observed, 5), round(p.variance, 8), len(where)] for p in seen]
    rungs = {
        row.rung: {
            "held_out": None if row.held_out is None else [round(row.held_out.value, 4), row.held_out.n],
            "p_better": None if row.p_better is None else round(row.p_better, 4),
            "seconds": round(row.seconds, 1),
            **tests[row.rung],
        }
        for row in study.results
    }
    steps = {
        d.name: d.value for d in study.decisions if d.name.endswith((".steps", ".folds", "network.backbone"))
    }
    return {
        "key": cell.key(budget),
        **vars(cell),
        "budget": budget,
        "labels_a_class": ctx.data.per_class,
        "chosen": best,
        "rungs": rungs,
        "pairs": pairs,
        "plans": steps,
        "seconds": climbed,
        "notes": study.notes,
    }


def main() -> None:
    parser = suite_parser(__doc__, SUITES)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--labels", type=int, help="only cells of so many labels a class")
    options = parser.parse_args()
    cells, seeds = SUITES[options.suite]
    data = options.data.resolve()
    for cell in cells(list(seeds_of(options.seeds, seeds))):
        if options.only and cell.data not in options.only.split(","):
            continue
        if options.labels and cell.per_class != options.labels:
            continue
        # Read anew each time: several of these may share the work.
        if cell.key(options.budget) in {row["key"] for row in read_rows(f"whole-{options.suite}")}:
            continue
        work, started = Path(tempfile.mkdtemp(prefix="fallow-bench-")), time.monotonic()
        try:
            row = climb(cell, load(cell.data, data), options.budget, options.set, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"whole-{options.suite}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        tests = " ".join(f"{name} {100 * made['test']:.1f}" for name, made in row["rungs"].items())
        print(f"{row['key']}: {tests} -> {row['chosen']} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    main()
