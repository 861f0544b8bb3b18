"""What `fallow forecast` foresees against what comes: from 10 labels a class, the error at 40 a class.

    python benchmarks/forecast.py SUITE --data DIR [--seeds 100-119] [--only digits]
    python benchmarks/forecast.py priors|figures --data DIR

Suites: ``dev`` (development splits, seeds 0-9: what the priors are made of; ``--seeds`` says which rounds of tasks, 22 by
default), ``final`` (final test split, seeds 100-119, run once). A cell of the final suite is one draw of 40 labels a class: the
forecast sees 10 of them, the other 30 are among its unlabeled images. A task of the development suite is the same with some
of the classes, and with 5, 10 or 20 labels a class and four times as many, so that priors are learned from errors of 1 to 50 %;
up to 3,000 images that are not needed are tested too. Then the same rungs are fitted on 10 and on 40 and scored on test images that nobody saw. UC Merced and digits have
few of these, so that some of the pool are kept out of everything and tested too. ``priors`` writes the package's
``priors.json`` from the development cells, ``figures`` says how well the intervals did: every cell with the priors of the
*other* data sets.
"""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from frozen import SETS, World
from protocol import RESULTS, Known, draw, read_rows, seeds_of, suite_parser

SUITES = {"dev": range(22), "final": range(100, 120)}
LABELS, TIMES = 10, 4
POOL = {"cifar10": 1000, "fashion": 1000}
"""Unlabeled images at most, beside those that will be labeled."""
KEPT = {"ucmerced": 20, "digits": 50}
"""Images a class of the pool that are tested too."""
CUT, TESTED = 1000, 3000
"""Unlabeled images of a development task at most, and how many of those left over are tested."""
LEAST_CLASSES, LEAST_ERROR, LEAST_LABELS = 4, 0.015, 10
"""Tasks that say nothing of a ratio or an exponent: too few classes, errors or labels."""
RUNGS = ("probe", "propagate")
PRIORS = Path(__file__).parents[1] / "src" / "fallow" / "study" / "forecasting" / "priors.json"


@dataclass(frozen=True)
class Task:
    """What is forecast: how many classes (0: all), from how many labels a class, and the seed of the draw."""

    data: str
    classes: int
    per_class: int
    seed: int


def dev_tasks(name: str, number: int) -> Task:
    """Return a development task of a data set: all classes in some rounds, a few in most."""
    rng = random.Random(f"plan/{name}/{number}")
    all_classes = 21 if name == "ucmerced" else 10
    if number in (0, 3, 6, 9):
        return Task(name, all_classes, 5 if number == 9 else 10, number)
    some = [3, 4, 5, 6, 8, 14, 21] if name == "ucmerced" else [3, 4, 5, 6, 7, 8, 10]
    classes, per_class = rng.choice(some), rng.choice([10, 10, 10, 10, 5, 20])
    if name == "ucmerced" and per_class == 20:  # it has 100 images a class
        per_class = 10
    classes = max(classes, 4) if per_class == 5 else classes
    return Task(name, classes, per_class, number if number < 10 else rng.randrange(10))


def _some_classes(known: Known, task: Task) -> Known:
    names = sorted(known.files)
    if not 0 < task.classes < len(names):
        return known
    drawn = random.Random(f"sub/{task.data}/{task.classes}/{task.per_class}/{task.seed}").sample(
        names, task.classes
    )
    test = None if known.test is None else {c: known.test[c] for c in sorted(drawn)}
    return Known(known.name, {c: known.files[c] for c in sorted(drawn)}, test)


def cell(world: World, task: Task, split: str) -> dict[str, Any]:
    """Forecast on one draw, label what was foreseen, and return both."""
    from fallow.study.forecasting.forecast import measured_curves
    from fallow.study.forecasting.measure import fit_part
    from fallow.study.inputs import FrozenInputs

    seed = task.seed
    drawn = draw(_some_classes(world.known, task), task.per_class * TIMES, seed, split)
    of_class: dict[str, list[Any]] = {}
    for file, name in drawn.labeled:
        of_class.setdefault(name, []).append((file, name))
    first = [pair for pairs in of_class.values() for pair in pairs[: task.per_class]]
    later = [pair for pairs in of_class.values() for pair in pairs[task.per_class :]]
    pool, kept = _pool_and_kept(world.name, drawn.pool, seed, split)
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
        "key": key_of(task, split),
        "data": world.name,
        "classes": len(ctx.data.classes),
        "per_class": task.per_class,
        "seed": seed,
        "split": split,
        "labels": len(ctx.data.y),
        "folds": curves["probe"].folds,
        "rungs": {
            rung: {
                "sizes": curve.sizes.tolist(),
                "errors": curve.errors.round(5).tolist(),
                "estimates": curve.estimates.round(5).tolist(),
                "covariance": curve.covariance.round(8).tolist(),
                "images": curve.images,
                "disagreement": curve.disagreement.round(5).tolist(),
                "doubt": curve.doubt.round(5).tolist(),
                "test": tests[rung],
            }
            for rung, curve in curves.items()
        },
        "test_images": len(classes),
    }


def key_of(task: Task, split: str) -> str:
    """Return the name of a cell."""
    some = f"{task.classes}/" if task.classes else ""
    return f"{split}/{task.data}/{some}{task.per_class}/{task.seed}"


def _pool_and_kept(name: str, pool: list[Any], seed: int, split: str) -> tuple[list[Any], list[Any]]:
    """Return the unlabeled images, and those of them that are kept out of everything to be tested."""
    shuffled = list(pool)
    random.Random(seed).shuffle(shuffled)
    kept: list[Any] = []
    rest: list[Any] = []
    counts: dict[str, int] = {}
    for file, label in shuffled:
        counts[label] = counts.get(label, 0) + 1
        (kept if counts[label] <= KEPT.get(name, 0) else rest).append((file, label))
    if split == "final":
        return rest[: POOL.get(name)], kept
    random.Random(f"p{seed}").shuffle(rest)
    return rest[:CUT], [*kept, *rest[CUT : CUT + TESTED]]


def write_priors() -> None:
    """Write the priors that the package ships from the development cells."""
    rows = []
    for row in read_rows("forecast-dev"):
        probe = curves_of(row)["probe"]
        for rung in RUNGS:
            (now, error), (then, later) = ((int(n), e) for n, e in row["rungs"][rung]["test"].items())
            if (
                row["folds"] != 5
                or row["classes"] < LEAST_CLASSES
                or row["per_class"] < LEAST_LABELS
                or error < LEAST_ERROR
            ):
                continue
            rows.append(
                {
                    "data": row["data"],
                    "rung": rung,
                    "per_class": row["per_class"],
                    "disagreement": float(probe.disagreement[0]),
                    "fade": round(probe.fade, 5),
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
            np.array(made.get("estimates", made["errors"])),
            np.array(made["covariance"]),
            made["images"],
            np.array(made["disagreement"]),
            np.array(made.get("doubt", [np.nan] * len(made["sizes"]))),
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
    rows = [row for row in read_rows(f"forecast-{suite}") if row["per_class"] == LABELS and row["folds"] == 5]
    whole = [row for row in rows if row.get("classes", 10) >= 10]
    some = [row for row in rows if row.get("classes", 10) >= 5]
    print_figures(f"{suite}, all classes (UC Merced: at least 14)", whole)
    if len(some) > len(whole):
        print_figures(f"{suite}, at least five classes", some)


def print_figures(title: str, rows: list[dict[str, Any]]) -> None:
    """Print the figures of some cells."""
    if not rows:
        return
    found = [one for row in rows for one in judged(row)]
    for when, labels in ((0, LABELS), (1, LABELS * TIMES)):
        print(f"{title}, {labels} labels a class ({len(rows)} draws)")
        for name in ("all", *RUNGS, *sorted({one["data"] for one in found})):
            some = [one for one in found if one["when"] == when and name in ("all", one["rung"], one["data"])]
            mean = {
                key: np.mean([one[key] for one in some])
                for key in some[0]
                if key not in ("data", "rung", "when")
            }
            print(
                f"  {name:10} covers {mean['cover']:.2f} (with the count of test images: {mean['counted']:.2f})  median width "
                f"{np.median([one['width'] for one in some]):.2f}  log error {mean['off']:+.2f}  Winkler {mean['score']:.2f}  "
                f"last point {mean['last']:.2f}  plain power law {mean['power']:.2f}"
            )


def judged(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how good the intervals of a cell are: each rung, with the labels at hand and with four times as many.

    An interval is for the error; what it is held against was counted on a few hundred test images. ``counted`` says whether
    an interval for such a count, of as many images, holds it.
    """
    from fallow.study.forecasting import laws_of

    laws = laws_of(curves_of(row), row["labels"], row["per_class"], row["seed"], row["data"])
    images, rng, found = row["test_images"], np.random.default_rng(row["seed"]), []
    for rung, law in laws.items():
        made = row["rungs"][rung]
        for when, (count, error) in enumerate(made["test"].items()):
            middle, low, high = law.quantiles(int(count))
            # Evenly within its step, so that the interval of a count of few has 80 % as well.
            counts = rng.binomial(images, law.at(int(count))) + rng.uniform(-0.5, 0.5, len(law.level))
            least, most = np.quantile(counts, [0.1, 0.9]) / images
            unit = max(error, 2 / images)
            found.append(
                {
                    "data": row["data"],
                    "rung": rung,
                    "when": when,
                    "cover": low <= error <= high,
                    "counted": least <= error <= most,
                    "width": (high - low) / middle,
                    "off": float(np.log(middle / max(error, 0.5 / images))),
                    "score": winkler(low, high, error) / unit,
                    **{
                        name: winkler(*plain, error) / unit
                        for name, plain in plainly(made, int(count)).items()
                    },
                }
            )
    return found


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
    for number in seeds_of(options.seeds, SUITES[suite]):
        for name in SETS if not options.only else options.only.split(","):
            task = dev_tasks(name, number) if suite == "dev" else Task(name, 0, LABELS, number)
            if key_of(task, suite) in done:
                continue
            done.add(key_of(task, suite))
            if name not in worlds:
                worlds[name] = World(name, options.data)
            started = time.monotonic()
            row = cell(worlds[name], task, suite)
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
