"""Labeling what `fallow suggest` asks for against labeling at random: accuracy of the cheap rungs on test images.

    python benchmarks/suggest.py SUITE --data DIR [--seeds 100-119] [--only digits]
    python benchmarks/suggest.py figures --data DIR

Suites: ``dev`` (development splits, seeds 0-9), ``final`` (final test split, seeds 100-119, run once). Two cells a draw:
``rounds`` begins with 2 labels a class and labels twice as many images as there are classes, three times over; ``cold``
begins with none and labels as many images as there are classes, once. Random choice draws as many from the same pool.
"Never worse" is a mean paired difference of at least -0.5 point whose lower 95 % bound is at least -1.5.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from frozen import SETS, World
from protocol import RESULTS, draw, read_rows, seeds_of, suite_parser

SUITES = {"dev": range(10), "final": range(100, 120)}
START, EACH, ROUNDS = 2, 2, 3
POOL = 1500
RUNGS = ("probe", "propagate")
Pairs = list[tuple[Path, str]]


def label(world: World, labeled: Pairs, pool: Pairs, count: int, rounds: int, seed: int, how: str) -> Pairs:
    """Return the labeled images after rounds of labeling ``count`` each."""
    from fallow.study.suggesting import choose, look

    for number in range(rounds):
        if how == "suggest":
            ctx = world.context(labeled, pool, seed)
            picked = choose(ctx, look(ctx), count).picked.rows - len(ctx.data.y)
            chosen = {ctx.data.pool_ids[row] for row in picked}
        else:
            there = [str(file) for file, _ in pool]
            order = np.random.default_rng([seed, number]).permutation(len(there))[:count]
            chosen = {there[i] for i in order}
        labeled = labeled + [pair for pair in pool if str(pair[0]) in chosen]
        pool = [pair for pair in pool if str(pair[0]) not in chosen]
    return labeled


def score(world: World, labeled: Pairs, everything: Pairs, test: Pairs, seed: int) -> dict[str, float]:
    """Return the test accuracy of the cheap rungs with these labels; classes without a label are never named."""
    from fallow.study.forecasting.measure import fit_part
    from fallow.study.inputs import FrozenInputs

    known = {file for file, _ in labeled}
    ctx = world.context(labeled, [pair for pair in everything if pair[0] not in known], seed)
    images, classes = world.images(test)
    names, inputs = np.array(ctx.data.classes), FrozenInputs(ctx, None)
    made = {}
    for rung in RUNGS:
        guess = names[fit_part(ctx, inputs, rung).probs(images, "test").argmax(1)]
        made[rung] = round(float((guess == np.array(classes)).mean()), 5)
    return {**made, "classes": len(names), "labels": len(ctx.data.y)}


def cells(world: World, seed: int, split: str, done: set[str]) -> list[dict[str, Any]]:
    """Return what is not yet there of one draw."""
    drawn = draw(world.known, START, seed, split, pool=POOL)
    everything = [*drawn.labeled, *drawn.pool]
    classes = len(world.known.files)
    made = []
    for start in ("rounds", "cold"):
        key = f"{split}/{world.name}/{start}/{seed}"
        if key in done:
            continue
        row: dict[str, Any] = {"key": key, "data": world.name, "start": start, "seed": seed, "split": split}
        for how in ("suggest", "random"):
            begun = list(drawn.labeled) if start == "rounds" else []
            pool = drawn.pool if start == "rounds" else everything
            count, rounds = (EACH * classes, ROUNDS) if start == "rounds" else (classes, 1)
            labeled = label(world, begun, pool, count, rounds, seed, how)
            row[how] = score(world, labeled, everything, drawn.test, seed)
        made.append(row)
    return made


def figures(suite: str) -> None:
    """Print the paired differences, by start, data set and rung."""
    rows = read_rows(f"suggest-{suite}")
    for start in ("rounds", "cold"):
        for name in SETS:
            some = [row for row in rows if row["data"] == name and row["start"] == start]
            if not some:
                continue
            told = []
            for rung in RUNGS:
                ours, theirs = (
                    100 * np.array([row[how][rung] for row in some]) for how in ("suggest", "random")
                )
                gain = ours - theirs
                half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
                told.append(
                    f"{rung} {ours.mean():.1f} against {theirs.mean():.1f}: {gain.mean():+.1f} ± {half:.1f}"
                )
            seen = [np.mean([row[how]["classes"] for row in some]) for how in ("suggest", "random")]
            print(
                f"{suite} {start:6} {name:9} {len(some):2} draws  {'  '.join(told)}  classes seen {seen[0]:.1f} against {seen[1]:.1f}"
            )


def main() -> None:
    options = suite_parser(__doc__, [*SUITES, "figures"]).parse_args()
    if options.suite == "figures":
        for suite in SUITES:
            figures(suite)
        return
    suite = options.suite
    done = {row["key"] for row in read_rows(f"suggest-{suite}")}
    worlds: dict[str, World] = {}
    for seed in seeds_of(options.seeds, SUITES[suite]):
        for name in SETS if not options.only else options.only.split(","):
            if {f"{suite}/{name}/{start}/{seed}" for start in ("rounds", "cold")} <= done:
                continue
            if name not in worlds:
                worlds[name] = World(name, options.data)
            started = time.monotonic()
            made = cells(worlds[name], seed, suite, done)
            RESULTS.mkdir(exist_ok=True)
            with (RESULTS / f"suggest-{suite}.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in made)
            said = {row["start"]: (row["suggest"], row["random"]) for row in made}
            print(f"{suite}/{name}/{seed}: {said} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
