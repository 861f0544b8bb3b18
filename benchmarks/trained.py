"""The trained rungs measured: each method's final refit on one draw of labels, scored on its test split.

    python benchmarks/trained.py SUITE --data DIR [--seeds 100-104] [--only digits] [--methods softmatch,uda]

Suites: ``dev`` (development splits, seeds 0-4), ``final`` (the final split, seeds 100-104: 40 labels in all, balanced
pools), ``tail`` (pools skewed 30:1, with and without +abc and the estimated mix), ``foreign`` (a fifth of the pool is of no
class, with and without the guard). Steps are pinned, so that a cell does not depend on the speed of the machine. Cells that
are in ``results/trained-<suite>.jsonl`` already are skipped. What is scored is the network in memory.
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

import numpy as np
from protocol import RESULTS, Known, draw, load, read_rows, seeds_of, suite_parser

STEPS = {"finetune": 300, "joint": 600, "pretrain": 300, "noisy_student": 600}
FEW_STEPS = {"finetune": 80, "joint": 100, "noisy_student": 100}
"""Of the last blocks of a pretrained network, which begins where others end."""
METHODS = (
    "softmatch",
    "adamatch",
    "fixmatch",
    "uda",
    "flexmatch",
    "freematch",
    "mean_teacher",
    "pretrain",
    "noisy_student alone",
    "noisy_student",
    "ensemble",
)
LADDER = {"softmatch": "joint", "pretrain": "pretrain", "noisy_student": "noisy_student"}
POOL = 3000


@dataclass(frozen=True)
class Cell:
    """One draw; all methods are trained on it.

    ``variants`` are methods with what is set beside: ``softmatch+abc``, ``softmatch no mix`` (without the estimated class
    mix of the pool), ``softmatch keep`` (foreign images too), ``noisy_student alone`` (propagate teaches alone).
    """

    data: str
    per_class: int
    seed: int
    split: str
    imbalance: float = 1.0
    foreign: float = 0.0
    variants: tuple[str, ...] = METHODS

    def key(self, variant: str) -> str:
        where = f"{self.split}/{self.data}/{self.per_class}/{self.imbalance:g}:1/foreign {self.foreign:g}"
        return f"{where}/{self.seed}/{variant}"


def balanced_cells(split: str, seeds: list[int]) -> Iterator[Cell]:
    for data in ("digits", "fashion"):
        for seed in seeds:
            yield Cell(data, 4, seed, split)


def dev_cells(seeds: list[int]) -> Iterator[Cell]:
    yield from balanced_cells("dev", seeds)
    ladder = (*LADDER, "ensemble")
    pretrained = tuple(name for name in ladder if name != "pretrain")
    for seed in seeds:
        for k in (2, 10):
            yield Cell("digits", k, seed, "dev", variants=ladder)
        yield Cell("fashion", 10, seed, "dev", variants=ladder)
        for k in (5, 10):
            yield Cell("ucmerced", k, seed, "dev", variants=pretrained)


def tail_cells(seeds: list[int]) -> Iterator[Cell]:
    variants = tuple(
        f"{m}{abc}{mix}" for m in ("softmatch", "adamatch") for abc in ("", "+abc") for mix in ("", " no mix")
    )
    for data in ("digits", "fashion"):
        for seed in seeds:
            yield Cell(data, 4, seed, "final", imbalance=30.0, variants=variants)


def foreign_cells(seeds: list[int]) -> Iterator[Cell]:
    variants = tuple(f"{m} {what}" for m in ("softmatch", "noisy_student") for what in ("keep", "auto"))
    for seed in seeds:
        yield Cell("digits", 4, seed, "final", foreign=0.2, variants=variants)


SUITES: dict[str, tuple[Any, range]] = {
    "dev": (dev_cells, range(5)),
    "final": (lambda seeds: balanced_cells("final", seeds), range(100, 105)),
    "tail": (tail_cells, range(100, 105)),
    "foreign": (foreign_cells, range(100, 105)),
}


def steps_of(cell: Cell) -> dict[str, int]:
    """Return the steps of each rung on a data set."""
    return FEW_STEPS if cell.data == "ucmerced" else STEPS


def context(cell: Any, known: Known, others: Known | None, work: Path, pool: int = POOL) -> Any:
    """Return what rungs look at, for one draw with at most ``pool`` unlabeled images."""
    from fallow.config import TrainConfig
    from fallow.data import audit, cache_dir, open_source
    from fallow.record import DecisionLog
    from fallow.study import Clock
    from fallow.study.bank import SpaceBank
    from fallow.study.context import RungContext
    from fallow.study.data import StudyData
    from fallow.study.plan import plan_spaces
    from fallow.tasks import classification_task

    drawn = draw(
        known,
        cell.per_class,
        cell.seed,
        cell.split,
        imbalance=cell.imbalance,
        pool=pool,
        foreign=others,
        foreign_fraction=cell.foreign,
    )
    drawn.write_csv(work / "data.csv")
    decisions, clock, config = DecisionLog(), Clock(1e6), TrainConfig(seed=cell.seed, offline=True)
    data = StudyData.build(audit(open_source(work / "data.csv")), cell.seed, decisions)
    bank = SpaceBank(config.embed, cache_dir(), offline=True)
    plan = plan_spaces(data, bank, clock, decisions, cell.seed)
    return RungContext(data, classification_task(data.classes), bank, config, decisions, clock, plan)


def climb(cell: Cell, ctx: Any, wanted: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what each variant's final refit says of the test images."""
    from fallow.study.rungs import RUNGS

    below: dict[str, Any] = {}
    steps = steps_of(cell)
    for name in ("probe", "propagate", "finetune"):
        started = time.monotonic()
        below[name] = RUNGS[name].fit(ctx, None, below, steps.get(name))
        if name in wanted:
            yield name, measured(ctx, below[name], time.monotonic() - started)
    for variant in cell.variants:
        teaches = variant in LADDER and {"noisy_student", "ensemble"} & set(wanted) - {variant}
        if variant not in wanted and not teaches:
            continue
        started, (name, *extra) = time.monotonic(), variant.split()
        rung = name if name in RUNGS else "joint"
        config = ctx.config.model_copy(deep=True)
        if rung == "joint":
            config.method = name
        if extra and extra[0] in ("keep", "auto"):
            config.joint.foreign = extra[0]
        left_out = {"no": ("propagate",), "alone": ("joint", "pretrain")}.get(extra[0] if extra else "", ())
        seen = {k: v for k, v in below.items() if k not in left_out}
        fields = {name: getattr(ctx, name) for name in ctx.__dataclass_fields__}
        # What is foreign depends on the config, all else that rungs share does not.
        scratch = {key: made for key, made in ctx.scratch.items() if key[1] != "foreign"}
        own = type(ctx)(**{**fields, "config": config, "scratch": scratch})
        candidate = RUNGS[rung].fit(own, None, seen, steps.get(rung))
        if variant in wanted:
            yield variant, measured(ctx, candidate, time.monotonic() - started)
        if variant in LADDER:
            below[LADDER[variant]] = candidate  # the ladder's own, from which the rungs above it start


def measured(ctx: Any, candidate: Any, seconds: float) -> dict[str, Any]:
    """Return accuracy and balanced accuracy on the test images."""
    if hasattr(candidate, "final"):
        candidate.final = False  # by torch at once: there is no need of an exported graph here
    return {**tested(ctx, candidate), "seconds": round(seconds, 1)}


def tested(ctx: Any, candidate: Any) -> dict[str, float]:
    """Return the same, without the time that a fit took."""
    said = candidate.predict(ctx.data.images(ctx.data.test_ids)).probs.numpy().argmax(1)
    truth = ctx.data.test_classes()
    recalls = [float((said[truth == c] == c).mean()) for c in np.unique(truth)]
    return {
        "test": round(float((said == truth).mean()), 4),
        "balanced_test": round(float(np.mean(recalls)), 4),
    }


def main() -> None:
    parser = suite_parser(__doc__, SUITES)
    parser.add_argument("--methods", help="variants, comma separated; default: all of the suite")
    options = parser.parse_args()
    cells, seeds = SUITES[options.suite]
    seeds = seeds_of(options.seeds, seeds)
    done = {row["key"] for row in read_rows(f"trained-{options.suite}")}
    for cell in cells(list(seeds)):
        if options.only and cell.data not in options.only.split(","):
            continue
        asked = options.methods.split(",") if options.methods else list(cell.variants)
        wanted = [v for v in ("probe", "propagate", "finetune", *asked) if cell.key(v) not in done]
        if not wanted:
            continue
        work = Path(tempfile.mkdtemp(prefix="fallow-bench-"))
        try:
            data = options.data.resolve()
            ctx = context(cell, load(cell.data, data), load("fashion", data) if cell.foreign else None, work)
            for variant, row in climb(cell, ctx, wanted):
                made = {
                    "key": cell.key(variant),
                    "variant": variant,
                    **vars(cell),
                    "steps": steps_of(cell),
                    **row,
                }
                made.pop("variants")
                RESULTS.mkdir(exist_ok=True)
                with (RESULTS / f"trained-{options.suite}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(made) + "\n")
                print(f"{made['key']}: {100 * row['test']:.1f} ({row['seconds']:.0f} s)", flush=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    main()
