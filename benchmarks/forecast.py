"""What `fallow forecast` foresees against what comes: from 10 labels a class, the error at 40 a class.

    python benchmarks/forecast.py SUITE --data DIR [--seeds 100-119] [--only digits]
    python benchmarks/forecast.py priors|figures --data DIR

Suites: ``dev`` (development splits, seeds 0-2: what the priors are made of), ``final`` (final test split, seeds 100-119,
run once). A cell is one draw of 40 labels a class: the forecast sees 10 of them, the other 30 are among its unlabeled
images; then the same rungs are fitted on 10 and on 40 and scored on test images that nobody saw. UC Merced and digits have
few of these, so that some of the pool are kept out of everything and tested too. ``priors`` writes the package's
``priors.json`` from the development cells, ``figures`` says how well the intervals did: every cell with the priors of the
*other* data sets.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from frozen import SETS, World
from protocol import RESULTS, draw, read_rows, seeds_of, suite_parser

SUITES = {"dev": range(3), "final": range(100, 120)}
LABELS, TIMES = 10, 4
POOL = {"cifar10": 1000, "fashion": 1000}
"""Unlabeled images at most, beside those that will be labeled."""
KEPT = {"ucmerced": 20, "digits": 50}
"""Images a class of the pool that are tested too."""
RUNGS = ("probe", "propagate")
PRIORS = Path(__file__).parents[1] / "src" / "fallow" / "study" / "forecasting" / "priors.json"


def cell(world: World, seed: int, split: str) -> dict[str, Any]:
    """Forecast on one draw, label what was foreseen, and return both."""
    from fallow.study.forecasting.forecast import measured_curves
    from fallow.study.forecasting.measure import fit_part
    from fallow.study.inputs import FrozenInputs

    drawn = draw(world.known, LABELS * TIMES, seed, split)
    of_class: dict[str, list[Any]] = {}
    for file, name in drawn.labeled:
        of_class.setdefault(name, []).append((file, name))
    first = [pair for pairs in of_class.values() for pair in pairs[:LABELS]]
    later = [pair for pairs in of_class.values() for pair in pairs[LABELS:]]
    pool, kept = _pool_and_kept(world.name, drawn.pool, seed)
    images, classes = world.images([*drawn.test, *kept])
    ctx = world.context(first, [*pool, *later], seed)
    curves = measured_curves(ctx)
    tests: dict[str, dict[str, float]] = {rung: {} for rung in RUNGS}
    for labeled, rest in ((first, [*pool, *later]), ([*first, *later], pool)):
        there = world.context(labeled, rest, seed)
        truth = np.array([there.data.classes.index(name) for name in classes])
        inputs = FrozenInputs(there, None)
        for rung in RUNGS:
            guess = fit_part(there, inputs, rung).probs(images, "test").argmax(1)
            tests[rung][str(len(there.data.y))] = round(float((guess != truth).mean()), 5)
    return {
        "key": f"{split}/{world.name}/{LABELS}/{seed}",
        "data": world.name,
        "per_class": LABELS,
        "seed": seed,
        "split": split,
        "labels": len(ctx.data.y),
        "folds": curves["probe"].folds,
        "rungs": {
            rung: {
                "sizes": curve.sizes.tolist(),
                "errors": curve.errors.round(5).tolist(),
                "covariance": curve.covariance.round(8).tolist(),
                "images": curve.images,
                "disagreement": curve.disagreement.round(5).tolist(),
                "test": tests[rung],
            }
            for rung, curve in curves.items()
        },
        "test_images": len(classes),
    }


def _pool_and_kept(name: str, pool: list[Any], seed: int) -> tuple[list[Any], list[Any]]:
    """Return the unlabeled images, and those of them that are kept out of everything to be tested."""
    shuffled = list(pool)
    random.Random(seed).shuffle(shuffled)
    kept: list[Any] = []
    rest: list[Any] = []
    counts: dict[str, int] = {}
    for file, label in shuffled:
        counts[label] = counts.get(label, 0) + 1
        (kept if counts[label] <= KEPT.get(name, 0) else rest).append((file, label))
    return rest[: POOL.get(name)], kept


def write_priors() -> None:
    """Write the priors that the package ships from the development cells."""
    rows = []
    for row in read_rows("forecast-dev"):
        for rung in RUNGS:
            (now, error), (then, later) = ((int(n), e) for n, e in row["rungs"][rung]["test"].items())
            rows.append(
                {
                    "data": row["data"],
                    "rung": rung,
                    "disagreement": row["rungs"]["probe"]["disagreement"][0],
                    "error": error,
                    "later": later,
                    "factor": round(then / now, 4),
                    "images": row["test_images"],
                }
            )
    PRIORS.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
    print(f"{len(rows)} rows in {PRIORS.name}")


def curves_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the curves that a cell measured."""
    from fallow.study.forecasting import Curve

    return {
        rung: Curve(
            rung,
            np.array(made["sizes"]),
            np.array(made["errors"]),
            np.array(made["covariance"]),
            made["images"],
            np.array(made["disagreement"]),
            row["folds"],
        )
        for rung, made in row["rungs"].items()
    }


def winkler(low: float, high: float, truth: float, level: float = 0.8) -> float:
    """Return the interval score (Winkler, JASA 1972): its width, and a fine for what it misses; lower is better."""
    fine = 2 / (1 - level)
    return high - low + fine * max(low - truth, 0.0) + fine * max(truth - high, 0.0)


def figures(suite: str) -> None:
    """Print coverage, width and interval score, by rung and data set."""
    from fallow.study.forecasting import laws_of

    rows = read_rows(f"forecast-{suite}")
    if not rows:
        return
    found = []
    for row in rows:
        laws = laws_of(curves_of(row), row["labels"], row["per_class"], row["seed"], row["data"])
        for rung, law in laws.items():
            made = row["rungs"][rung]
            for when, (count, error) in enumerate(made["test"].items()):
                same = [r["rungs"][rung]["test"] for r in rows if r["data"] == row["data"]]
                expected = float(np.mean([list(test.values())[when] for test in same]))
                middle, low, high = law.quantiles(int(count))
                found.append(
                    {
                        "data": row["data"],
                        "rung": rung,
                        "when": when,
                        "cover": low <= error <= high,
                        "cover_mean": low <= expected <= high,
                        "width": (high - low) / middle,
                        "off": float(np.log(middle / error)),
                        "score": winkler(low, high, error) / error,
                        **{
                            name: winkler(*plain, error) / error
                            for name, plain in plainly(made, int(count)).items()
                        },
                    }
                )
    for when, title in ((0, f"{LABELS} labels a class"), (1, f"{LABELS * TIMES} labels a class")):
        print(f"{suite}, {title} ({len(rows)} draws)")
        for name in ("all", *RUNGS, *sorted({one["data"] for one in found})):
            some = [one for one in found if one["when"] == when and name in ("all", one["rung"], one["data"])]
            mean = {
                key: np.mean([one[key] for one in some])
                for key in some[0]
                if key not in ("data", "rung", "when")
            }
            print(
                f"  {name:10} covers {mean['cover']:.2f} (mean over draws: {mean['cover_mean']:.2f})  median width "
                f"{np.median([one['width'] for one in some]):.2f}  log error {mean['off']:+.2f}  Winkler {mean['score']:.2f}  "
                f"last point {mean['last']:.2f}  plain power law {mean['power']:.2f}"
            )


def plainly(made: dict[str, Any], labels: int) -> dict[str, tuple[float, float]]:
    """Return the intervals of two plain forecasts: the last point carried forward, and a line through log-log points."""
    error, n = made["errors"][0], made["images"]
    half = 1.2816 * float(np.sqrt(max(error * (1 - error), 1 / n) / n))
    slope, start = np.polyfit(np.log(made["sizes"]), np.log(np.maximum(made["errors"], 0.5 / n)), 1)
    ahead = float(np.exp(start + slope * np.log(labels)))
    factor = ahead / max(error, 0.5 / n)
    return {
        "last": (max(error - half, 0.0), error + half),
        "power": (max(ahead - half * factor, 0.0), ahead + half * factor),
    }


def main() -> None:
    options = suite_parser(__doc__, [*SUITES, "priors", "figures"]).parse_args()
    if options.suite == "priors":
        write_priors()
        return
    if options.suite == "figures":
        for suite in SUITES:
            figures(suite)
        return
    suite = options.suite
    done = {row["key"] for row in read_rows(f"forecast-{suite}")}
    worlds: dict[str, World] = {}
    for seed in seeds_of(options.seeds, SUITES[suite]):
        for name in SETS if not options.only else options.only.split(","):
            if f"{suite}/{name}/{LABELS}/{seed}" in done:
                continue
            if name not in worlds:
                worlds[name] = World(name, options.data)
            started = time.monotonic()
            row = cell(worlds[name], seed, suite)
            RESULTS.mkdir(exist_ok=True)
            with (RESULTS / f"forecast-{suite}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            said = {
                rung: (made["errors"][0], list(made["test"].values())) for rung, made in row["rungs"].items()
            }
            print(f"{row['key']}: {said} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
