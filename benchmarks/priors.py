"""Write the chooser's prior, ``src/fallow/study/priors.json``, from the development cells (``ladder.py dev``,
``trained.py dev``, ``whole.py dev``).

    python benchmarks/priors.py

A row is a data set, a pair of rungs and a number of labels a class: mean gain of the one over the other on the
development test split, its standard deviation over draws, the number of draws. No final test image is behind it, and
none of the cells that were made hard on purpose.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from ladder import SMALL_POOL
from protocol import read_rows
from trained import LADDER

OUT = Path(__file__).parents[1] / "src" / "fallow" / "study" / "priors.json"
ORDER = ("probe", "propagate", "finetune", "joint", "pretrain", "noisy_student", "ensemble")
FROM_SCRATCH = ("digits", "fashion")
"""Small gray images: the trained rungs train a small network from random weights, elsewhere the last blocks of a pretrained one."""
Tests = dict[str, float]


def cheap_draws() -> Iterator[tuple[str, float, Tests]]:
    """Yield data set, labels a class and what the cheap rungs got on the test images, for each draw."""
    for row in read_rows("dev"):
        if row["backbone"] != "auto" or row["foreign"] or row["pool"] == SMALL_POOL:
            continue  # the chooser is tried on these, as the data of somebody who has bad luck
        yield row["data"], row["labels_a_class"], {rung: made["test"] for rung, made in row["rungs"].items()}


def trained_draws() -> Iterator[tuple[str, float, Tests]]:
    """Yield the same of draws on which the trained rungs were refitted with pinned steps."""
    found: dict[tuple[str, float, int], Tests] = defaultdict(dict)
    for row in read_rows("trained-dev"):
        rung = LADDER.get(row["variant"], row["variant"])
        if rung in ORDER:
            found[row["data"], float(row["per_class"]), row["seed"]][rung] = row["test"]
    for (name, per_class, _), tests in found.items():
        yield name, per_class, tests


def whole_draws() -> Iterator[tuple[str, float, Tests]]:
    """Yield the same of whole runs."""
    for row in read_rows("whole-dev"):
        yield row["data"], row["labels_a_class"], {rung: made["test"] for rung, made in row["rungs"].items()}


def main() -> None:
    gains: dict[tuple[str, str, str, float], list[float]] = defaultdict(list)
    for draws in (cheap_draws(), trained_draws(), whole_draws()):
        for name, per_class, tests in draws:
            for over, rung in combinations([r for r in ORDER if r in tests], 2):
                gains[name, rung, over, per_class].append(tests[rung] - tests[over])
    rows = [
        {
            "data": name,
            "network": None
            if (rung, over) == ("propagate", "probe")
            else "scratch"
            if name in FROM_SCRATCH
            else "pretrained",
            "rung": rung,
            "over": over,
            "per_class": per_class,
            "gain": round(float(np.mean(g)), 4),
            "sd": round(float(np.std(g, ddof=1)), 4) if len(g) > 1 else 0.0,
            "draws": len(g),
        }
        for (name, rung, over, per_class), g in sorted(gains.items())
    ]
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    OUT.write_text(f'{{"rows": [\n  {lines}\n]}}\n', encoding="utf-8")
    print(f"{OUT}: {len(rows)} rows")


if __name__ == "__main__":
    main()
