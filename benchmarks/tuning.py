"""Labels-only training under other values than its defaults: what a value is worth, on development draws alone.

    python benchmarks/tuning.py SUITE --data DIR [--seeds 0-4] [--only fashion] [--variants default,picks 3]

Suites: ``values`` (one value changed at a time, 4 labels a class; ``reach`` caps each transform where it was measured to carry
images out of their class), ``search`` (20 labels a class: the default, and what the fold's own search takes), ``steps`` (shorter
and longer lessons: would patience have anything to wait for?). All are the refit on all labels of a draw, with pinned steps, scored on its development test split. Cells that are in
``results/tuning.jsonl`` already are skipped.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from protocol import RESULTS, load, read_rows, seeds_of, suite_parser
from trained import STEPS, Cell, context, measured

LR, DECAY, STRENGTH, MIX = "optimization.lr", "optimization.weight_decay", "augment.strength", "augment.mix"
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "picks 3": {"augment.picks": 3},
    "strength 0.5": {STRENGTH: 0.5},
    "strength 0.2": {STRENGTH: 0.2},
    "strength 0": {STRENGTH: 0.0},
    "mixup": {MIX: "mixup"},
    "lr 0.0005": {LR: 5e-4},
    "lr 0.006": {LR: 6e-3},
    "decay 0.5": {DECAY: 0.5},
    "steps 75": {"optimization.steps": 75},
    "steps 150": {"optimization.steps": 150},
    "steps 600": {"optimization.steps": 600},
    "steps 1200": {"optimization.steps": 1200},
    "reach": {},
}
SEARCH = ("default", "search")
PATIENCE = ("steps 75", "steps 150", "default", "steps 600", "steps 1200")
SUITES: dict[str, tuple[tuple[str, ...], int]] = {
    "values": (tuple(VALUES), 4),
    "search": (SEARCH, 20),
    "steps": (PATIENCE, 4),
}
SEARCH_STEPS = 200
_TRESPASS = 0.1


def reached_noise(ctx: Any, fold: Any) -> Any:
    """Return the noise of a fit with each transform capped where a tenth of the images leaves its class, by vectors that vote."""
    from fallow.augment import default_limits, limits_from, strong_policy, weak_policy
    from fallow.study.spaces import spaces_of
    from fallow.study.trained import noise

    gray = ctx.data.audit.channels == "gray"
    flips = noise._MOVES[noise._views(spaces_of(ctx, fold))]
    limits = {k: v for k, v in default_limits(gray).items() if k not in ("hflip", "vflip")}
    capped = limits_from(reach_of(ctx, tuple(limits)), limits, _TRESPASS)
    limits = {k: min(v, limits[k]) for k, v in capped.items()} | dict.fromkeys(flips, 1.0)
    return noise.Noise(
        weak_policy(limits, flips=flips, gray=gray), strong_policy(limits, flips=flips, gray=gray)
    )


def reach_of(ctx: Any, transforms: tuple[str, ...]) -> list[Any]:
    """Measure reach without trespass on 128 images; classes of the pool are those that propagation gives it."""
    import torch

    from fallow.augment import measure_reach
    from fallow.study.rungs import RUNGS

    name, size = ctx.plan.backbones[0], ctx.plan.sizes[0]
    space = ctx.bank.space(name, size, "none")
    vectors = np.concatenate([ctx.bank.pooled(space, images) for images in (ctx.labeled, ctx.pool)])
    said = RUNGS["propagate"].fit(ctx, None, {}).predict(ctx.pool).probs.numpy().argmax(1)
    classes = np.concatenate([ctx.data.y, said])
    drawn = np.random.default_rng(0).permutation(len(classes))[:128]
    ids = [*ctx.data.labeled_ids, *ctx.data.pool_ids]
    images = ctx.data.images(tuple(ids[i] for i in drawn))
    resize = ctx.bank.embedder(name, size).preprocess.resize
    batch = torch.from_numpy(np.stack([resize(images.read(i)) for i in images.ids])).permute(0, 3, 1, 2)
    return measure_reach(
        batch.float() / 255,
        classes[drawn],
        lambda x: ctx.bank.embed_batch(name, size, x),
        vectors,
        classes,
        own=drawn,
        transforms=transforms,
    )


def fitted(ctx: Any, variant: str, below: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the refit under a variant, and what its search found."""
    from fallow.study.rungs import RUNGS
    from fallow.study.trained import fit, tune

    config = ctx.config.model_copy(deep=True)
    for key, value in VALUES.get(variant, {}).items():
        section, name = key.split(".")
        setattr(getattr(config, section), name, value)
    fields = {name: getattr(ctx, name) for name in ctx.__dataclass_fields__}
    own = type(ctx)(**{**fields, "config": config, "scratch": dict(ctx.scratch)})
    own.scratch.pop(tune._KEY, None)
    if variant == "search":
        own.scratch[tune._KEY] = tune.Tuning(tune.TuningPlan(5, tune.PARTS, SEARCH_STEPS, 1e6), "")
    asked, noise_of = config.optimization.steps, fit.noise_of
    fit.noise_of = reached_noise if variant == "reach" else noise_of
    try:
        candidate = RUNGS["finetune"].fit(own, None, below, STEPS["finetune"] if asked == "auto" else asked)
    finally:
        fit.noise_of = noise_of
    found = tune.tuning_of(own).found.get("final")
    return candidate, {} if found is None else {"found": found.values, "evidence": found.evidence}


def rows_of(cell: Cell, wanted: list[str], data: Path) -> Iterator[dict[str, Any]]:
    """Yield one row a variant."""
    from fallow.study.rungs import RUNGS

    work = Path(tempfile.mkdtemp(prefix="fallow-bench-"))
    try:
        ctx = context(cell, load(cell.data, data), None, work)
        probe = RUNGS["probe"].fit(ctx, None, {})
        base = measured(ctx, probe, 0.0)["test"]
        for variant in wanted:
            started = time.monotonic()
            candidate, found = fitted(ctx, variant, {"probe": probe})
            row = measured(ctx, candidate, time.monotonic() - started)
            place = {"data": cell.data, "per_class": cell.per_class, "seed": cell.seed}
            yield {
                "key": cell.key(variant),
                "variant": variant,
                **place,
                "test": row["test"],
                "probe": base,
                **found,
            }
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> None:
    parser = suite_parser(__doc__, SUITES)
    parser.add_argument("--variants", help="comma separated; default: all of the suite")
    options = parser.parse_args()
    variants, per_class = SUITES[options.suite]
    done = {row["key"] for row in read_rows("tuning")}
    for seed in seeds_of(options.seeds, range(5)):
        for data in options.only.split(",") if options.only else ("digits", "fashion"):
            cell = Cell(data, per_class, seed, "dev")
            asked = options.variants.split(",") if options.variants else variants
            wanted = [v for v in asked if cell.key(v) not in done]
            for row in rows_of(cell, wanted, options.data.resolve()) if wanted else ():
                with (RESULTS / "tuning.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    f"{row['key']}: {100 * row['test']:.1f} (probe {100 * row['probe']:.1f})"
                    f"{' ' + json.dumps(row['found']) if 'found' in row else ''}",
                    flush=True,
                )


if __name__ == "__main__":
    import os

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    main()
