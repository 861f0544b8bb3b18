"""The ladder measured: one cell is one draw of labels, climbed once and scored on its test split after the choice.

    python benchmarks/ladder.py SUITE --data DIR [--seeds 100-109] [--only ucmerced] [--budget 30m]

Suites: ``final`` (the promises, final split, seeds 100-109), ``dev`` (development splits, seeds 0-5: what priors and the
chooser's simulation are made of). Cells that are in ``results/<suite>.jsonl`` already are skipped, so that a stopped
run goes on. The chooser's prior leaves out the cell's own data set. The test split is scored through the vectors of the
same network, image by image; that the exported file says the same is measured by ``onnx_parity.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol import RESULTS, Known, draw, load, read_rows, seeds_of, suite_parser
from reference import reference

SMALL_POOL = 100
FOREIGN = "clothing"
"""Where images of no class come from."""


@dataclass(frozen=True)
class Cell:
    """One experiment; ``backbone`` "auto" is what a user gets."""

    data: str
    per_class: int
    seed: int
    split: str
    imbalance: float = 1.0
    pool: int | None = None
    backbone: str = "auto"
    foreign: float = 0.0

    @property
    def key(self) -> str:
        pool = "all" if self.pool is None else self.pool
        foreign = f"/foreign {self.foreign:g}" if self.foreign else ""
        return f"{self.split}/{self.data}/{self.per_class}/{self.imbalance:g}:1/{pool}/{self.backbone}{foreign}/{self.seed}"


def final_cells(seeds: list[int]) -> Iterator[Cell]:
    """Yield the cells of the promises: data sets, labels a class, skews."""
    for seed in seeds:
        yield Cell("digits", 2, seed, "final")
        for k in (1, 2, 5, 10):
            yield Cell("ucmerced", k, seed, "final")
        for k in (1, 2, 5, 20):
            yield Cell("clothing", k, seed, "final")
        for skew in (10.0, 30.0):
            yield Cell("digits", 5, seed, "final", skew)
            yield Cell("ucmerced", 5, seed, "final", skew)
    for seed in seeds:
        for k in (4, 25):
            yield Cell("cifar10", k, seed, "final", pool=10_000)


def dev_cells(seeds: list[int]) -> Iterator[Cell]:
    """Yield development cells: those of the promises, and harder ones where spreading may lose."""
    for seed in seeds:
        for k in (1, 2, 5, 10, 60):
            yield Cell("digits", k, seed, "dev")
        for k in (1, 2, 5, 10, 40):
            yield Cell("ucmerced", k, seed, "dev")
        for k in (1, 2, 5, 20, 60):
            yield Cell("clothing", k, seed, "dev")
        for name in ("digits", "ucmerced"):
            for skew in (10.0, 30.0):
                yield Cell(name, 5, seed, "dev", skew)
        for k in (2, 20):  # a small pool
            yield Cell("clothing", k, seed, "dev", pool=SMALL_POOL)
        for k in (5, 20):  # a backbone that sees little
            yield Cell("clothing", k, seed, "dev", backbone="pixels")
            yield Cell("ucmerced", k, seed, "dev", backbone="pixels")
        for k in (2, 5, 20, 40):  # nine of ten images in the pool are of no class
            yield Cell("ucmerced", k, seed, "dev", pool=300, foreign=0.9)
    for seed in seeds[:2]:
        for k in (1, 4, 25, 100):
            yield Cell("cifar10", k, seed, "dev", pool=10_000)
        for k in (4, 25):
            yield Cell("cifar10", k, seed, "dev", pool=10_000, backbone="pixels")


SUITES = {"final": (final_cells, range(100, 110)), "dev": (dev_cells, range(6))}


def climb(cell: Cell, known: Known, others: Known | None, budget: str, work: Path) -> dict[str, Any]:
    """Climb the ladder on one draw and return the row."""
    from fallow.config import TrainConfig
    from fallow.data import open_source
    from fallow.record import RunDir, write_json
    from fallow.study import Clock, Study, both_ways, paired
    from fallow.study.scoring import VECTORS, score

    drawn = draw(
        known,
        cell.per_class,
        cell.seed,
        cell.split,
        imbalance=cell.imbalance,
        pool=cell.pool,
        foreign=others,
        foreign_fraction=cell.foreign,
    )
    table = work / "data.csv"
    drawn.write_csv(table)
    embed = {"backbone": cell.backbone}
    config = TrainConfig(
        budget=budget,
        seed=cell.seed,
        offline=True,
        rungs="probe,propagate",
        embed=embed,  # type: ignore[arg-type]
    )
    run = RunDir.create(work / "run")
    write_json(run.path / "request.json", {"data": str(table), "config": {}})
    clock = Clock(config.seconds)
    study = Study(open_source(table), config, run, clock, without_prior=cell.data)
    ctx, best = study.rise()
    tested = score(study, ctx, best, VECTORS)
    rows: dict[str, dict[str, Any]] = {
        row.rung: {
            "held_out": None if row.held_out is None else round(row.held_out.value, 4),
            "test": round(tested.scores[row.rung][0], 4),
            "balanced_test": round(tested.scores[row.rung][1], 4),
            "p_better": None if row.p_better is None else round(row.p_better, 4),
            "gain": None
            if row.gain is None
            else [round(v, 4) for v in (row.gain.value, row.gain.low, row.gain.high)],
        }
        for row in study.results
    }
    where, correct = study.evidence.correct(("propagate", "probe"))
    # As labeled and, where the pool's mix differs, weighted by it: the chooser minds the worse of both.
    ways = both_ways(study.weights(where)) if len(where) else ()
    evidence = [paired(correct["propagate"], correct["probe"], way) for way in ways]
    found: dict[str, Any] = {
        "key": cell.key,
        **{
            k: getattr(cell, k)
            for k in ("data", "per_class", "seed", "split", "imbalance", "pool", "backbone", "foreign")
        },
        "chosen": best,
        "rungs": rows,
        # What the chooser saw, enough to choose again under another prior.
        "labels_a_class": ctx.data.per_class,
        "evidence": [[round(one.observed, 5), round(one.variance, 8)] for one in evidence],
        "spaces": [space.key for space in study.finals[best].classifier.spaces],  # type: ignore[attr-defined]
        "seconds": round(clock.elapsed, 1),
        "budget": config.seconds,
        "images": {"labeled": len(ctx.data.y), "pool": len(ctx.pool), "test": len(ctx.data.test_ids)},
    }
    if cell.split == "final":
        found["reference"] = _reference(ctx, cell)
    return found


def _reference(ctx: Any, cell: Cell) -> dict[str, Any]:
    """Run the plain baseline on the plain embedding (one view), and on the very vectors that the rungs saw."""
    from fallow.study.spaces import spaces_of

    spaces = spaces_of(ctx, None)
    own = spaces[-1]  # digits: the pixels, which the baseline does better on
    plain = ctx.bank.space(own.backbone_name, own.size, "none")
    test = ctx.data.images(ctx.data.test_ids)

    def run(space: Any) -> dict[str, float]:
        sets = (ctx.bank.pooled(space, one) for one in (ctx.labeled, ctx.pool, test))
        labeled, pool, tested = sets
        made = reference(labeled, ctx.data.y, pool, tested, ctx.data.test_classes())
        return {name: round(value, 4) for name, value in made.items()}

    result = {"plain": run(plain)}
    result["same_vectors"] = result["plain"] if plain.key == own.key else run(own)
    return result


def main() -> None:
    parser = suite_parser(__doc__, SUITES)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--labels", type=int, help="only cells of so many labels a class")
    parser.add_argument("--share", default="1/1", help="i/n: do every n-th cell, beginning with the i-th")
    options = parser.parse_args()
    cells, seeds = SUITES[options.suite]
    seeds = seeds_of(options.seeds, seeds)
    wanted = [c for c in cells(list(seeds)) if not options.only or c.data in options.only.split(",")]
    wanted = [c for c in wanted if options.labels in (None, c.per_class)]
    part, parts = (int(v) for v in options.share.split("/"))
    done = {row["key"] for row in read_rows(options.suite)}
    known: dict[str, Known] = {}
    for number, cell in enumerate(wanted[part - 1 :: parts], start=1):
        if cell.key in done:
            continue
        for name in (cell.data, FOREIGN) if cell.foreign else (cell.data,):
            if name not in known:
                known[name] = load(name, options.data.resolve())
        work, started = Path(tempfile.mkdtemp(prefix="fallow-bench-")), time.monotonic()
        try:
            row = climb(cell, known[cell.data], known.get(FOREIGN), options.budget, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"{options.suite}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        tests = " ".join(f"{name} {100 * made['test']:.1f}" for name, made in row["rungs"].items())
        plain = row.get("reference", {}).get("plain", {})
        beside = f"| reference {100 * plain['spread']:.1f}" if plain else ""
        took = time.monotonic() - started
        print(
            f"{number}/{len(wanted)} {cell.key}: {tests} -> {row['chosen']} {beside} ({took:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
