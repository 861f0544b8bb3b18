"""Labeled images of another origin beside two labels a class: what `--extra` gains, and what bad ones cost.

    python benchmarks/extra.py dev --data DIR [--seeds 0-4] [--only digits,ucmerced]
    python benchmarks/extra.py joint --data DIR [--seeds 0-2]
    python benchmarks/extra.py figures --data DIR

One cell a draw of the development split. Ten images a class leave the pool and come back as extra ones: as they are (``same``),
as negatives with turned colors and a slight blur (``altered``), or with their labels shuffled (``wrong``). Each is compared with
the same draw without them: probe and blend, propagation without and with, and the rung that would be chosen on held-out
labels (four deals) by priors that leave the data set out. ``joint`` is the refit of joint training, steps pinned.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from frozen import World
from PIL import Image, ImageFilter
from protocol import RESULTS, draw, read_rows, seeds_of, suite_parser

SUITES = {"dev": range(5), "joint": range(3)}
STEPS = {"digits": (300, 600), "ucmerced": (80, 100)}
"""Of fine-tuning, from which a network without weights goes on, and of joint training."""
SETS = ("digits", "ucmerced")
LABELS, EXTRA, DEALS = 2, 10, 4
KINDS = ("none", "same", "altered", "wrong")
Pairs = list[tuple[Path, str]]


def altered(pixels: np.ndarray) -> np.ndarray:
    """Return the negative of an image, its colors turned, slightly blurred."""
    radius = max(0.6, min(pixels.shape[:2]) / 80)
    blurred = Image.fromarray(255 - pixels).filter(ImageFilter.GaussianBlur(radius))
    return np.ascontiguousarray(np.asarray(blurred)[:, :, [1, 2, 0]])


def taken(pool: Pairs) -> tuple[Pairs, Pairs]:
    """Return the first ten images a class of the pool, and the rest of it."""
    seen: dict[str, int] = {}
    extra, rest = [], []
    for file, name in pool:
        seen[name] = seen.get(name, 0) + 1
        (extra if seen[name] <= EXTRA else rest).append((file, name))
    return extra, rest


def context(world: World, labeled: Pairs, rest: Pairs, extra: Pairs, kind: str, seed: int) -> Any:
    """Return what rungs look at, with extra images of a kind."""
    from fallow.study.rung import ImageSet

    ctx = world.context(labeled, rest, seed)
    ctx.config.choose.repeats = DEALS
    if kind == "none":
        return ctx
    images, names = world.images(extra)
    y = np.array([ctx.data.classes.index(name) for name in names], np.int64)
    ids = tuple(f"{kind}/{id_}" for id_ in images.ids)
    hashes = list(images.pixel_hashes)
    if kind == "altered":
        hashes = [f"{pixel_hash}-altered" for pixel_hash in hashes]
    if kind == "wrong":
        y = np.random.default_rng(seed).permutation(y)

    def read(id_: str) -> np.ndarray:
        pixels: np.ndarray = images.read(id_.removeprefix(f"{kind}/"))
        return altered(pixels) if kind == "altered" else pixels

    ctx.data = replace(ctx.data, extra_ids=ids, extra_y=y)
    hash_of, own = dict(zip(ids, hashes, strict=True)), ctx.data.images

    def both(wanted: tuple[str, ...]) -> Any:
        known = own(tuple(id_ for id_ in wanted if id_ not in hash_of))
        hash_of.update(zip(known.ids, known.pixel_hashes, strict=True))
        theirs = set(ids)
        return ImageSet(
            wanted, [hash_of[i] for i in wanted], lambda i: (read if i in theirs else known.read)(i)
        )

    object.__setattr__(ctx.data, "images", both)  # extra images are of no table: some were never files
    return ctx


def climb(world: World, ctx: Any, test: Pairs, seed: int) -> dict[str, Any]:
    """Return the test accuracy of the cheap rungs, and which would be chosen."""
    from fallow.record import DecisionLog
    from fallow.study import RUNGS
    from fallow.study.data import plan_folds
    from fallow.study.evidence import OutOfFold
    from fallow.study.judge import Judge

    evidence = OutOfFold(ctx.data.labeled_ids, ctx.data.y, len(ctx.data.classes))
    judge = Judge(evidence, ctx.data.per_class, seed, world.name)
    folds = plan_folds(ctx.data, ctx.config.choose, seed, DecisionLog())
    names, images, classes = np.array(ctx.data.classes), *world.images(test)
    best, made = None, {}
    for name in ("probe", "blend", "propagate"):
        rung = RUNGS[name]
        if rung.info.needs_extra and not ctx.data.extra_ids:
            continue
        for fold in folds:
            held = ctx.data.images(tuple(ctx.data.labeled_ids[i] for i in fold.held_out))
            said = rung.fit(ctx, fold, {}).predict(held).probs.numpy()
            evidence.add(name, fold.key, fold.held_out, said)
        final = rung.fit(ctx, None, {})
        guess = names[final.predict(images).probs.numpy().argmax(1)]
        made[name] = round(float((guess == np.array(classes)).mean()), 5)
        if best is None or judge.judge(rung.info, RUNGS[best].info, final.mix, 0.0).wins:
            best = name
    weight = ctx.decisions.get("extra.weight")
    return {**made, "chosen": best, "weight": None if weight is None else weight.value}


def train(world: World, ctx: Any, test: Pairs) -> dict[str, Any]:
    """Return the test accuracy of joint training after the rungs below it."""
    from fallow.study import RUNGS
    from fallow.study.trained.network import network_plan

    below: dict[str, Any] = {}
    first, steps = STEPS[world.name]
    tuned = ("finetune",) if network_plan(ctx).scratch else ()
    for name in ("propagate", *tuned, "joint"):
        count = {"finetune": first, "joint": steps}.get(name)
        below[name] = RUNGS[name].fit(ctx, None, below, count)
    images, classes = world.images(test)
    guess = np.array(ctx.data.classes)[below["joint"].predict(images).probs.numpy().argmax(1)]
    return {"joint": round(float((guess == np.array(classes)).mean()), 5)}


def cell(world: World, seed: int, suite: str) -> dict[str, Any]:
    """Return what one draw gives with each kind of extra images."""
    drawn = draw(world.known, LABELS, seed, "dev")
    extra, rest = taken(drawn.pool)
    row: dict[str, Any] = {"key": f"{suite}/{world.name}/{seed}", "data": world.name, "seed": seed}
    for kind in KINDS[:3] if suite == "joint" else KINDS:
        ctx = context(world, drawn.labeled, rest, extra, kind, seed)
        row[kind] = train(world, ctx, drawn.test) if suite == "joint" else climb(world, ctx, drawn.test, seed)
    return row


def figures() -> None:
    """Print mean gains over the same draws without extra images, in points."""
    for row in (row for row in read_rows("extra") if row["key"].startswith("joint/")):
        told = [f"{kind} {100 * row[kind]['joint']:.1f}" for kind in KINDS if kind in row]
        print(f"joint training, {row['data']}, seed {row['seed']}: {', '.join(told)}")
    rows = [row for row in read_rows("extra") if row["key"].startswith("dev/")]
    for name in SETS:
        some = [row for row in rows if row["data"] == name]
        if not some:
            continue
        alone = {rung: np.mean([100 * row["none"][rung] for row in some]) for rung in ("probe", "propagate")}
        chosen = np.mean([100 * row["none"][row["none"]["chosen"]] for row in some])
        print(
            f"{name}, {len(some)} draws, without: probe {alone['probe']:.1f}, propagate {alone['propagate']:.1f}, "
            f"chosen {chosen:.1f}"
        )
        for kind in KINDS[1:]:
            told = []
            pairs = (("blend", "probe"), ("propagate", "propagate"), ("", ""))
            for ours, theirs in pairs:
                gain = [
                    100
                    * (row[kind][ours or row[kind]["chosen"]] - row["none"][theirs or row["none"]["chosen"]])
                    for row in some
                ]
                told.append(f"{ours or 'chosen'} {np.mean(gain):+.1f} (worst {min(gain):+.1f})")
            weights = [row[kind]["weight"] for row in some]
            print(f"  {kind:8} {'  '.join(told)}  weights {weights}")


def main() -> None:
    options = suite_parser(__doc__, [*SUITES, "figures"]).parse_args()
    if options.suite == "figures":
        figures()
        return
    done = {row["key"] for row in read_rows("extra")}
    for name in SETS if not options.only else options.only.split(","):
        seeds = [
            s
            for s in seeds_of(options.seeds, SUITES[options.suite])
            if f"{options.suite}/{name}/{s}" not in done
        ]
        world = World(name, options.data) if seeds else None
        for seed in seeds:
            assert world is not None
            started = time.monotonic()
            row = cell(world, seed, options.suite)
            RESULTS.mkdir(exist_ok=True)
            with (RESULTS / "extra.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{row} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
