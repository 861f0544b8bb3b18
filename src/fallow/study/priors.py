"""What rungs gained over labels only on the benchmark data sets: the prior of the chooser.

``priors.json`` is written by ``benchmarks/priors.py`` from measured runs and shipped with the package. It holds one
row per data set, rung and number of labels a class: mean gain over the draws, its standard deviation, the draws.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from math import log2, sqrt
from typing import TypedDict

from fallow.study.choose import Prior
from fallow.types import RungName

_BANDWIDTH = 1.0
"""Rows at half or twice the labels a class count exp(-1/2) as much as rows at the same number."""
_UNKNOWN = Prior(0.0, 0.05)
"""A rung with no benchmark row is expected to change nothing, give or take five points."""


class PriorRow(TypedDict):
    """One measured cell."""

    data: str
    rung: str
    per_class: float
    gain: float
    sd: float
    draws: int


@lru_cache(maxsize=1)
def rows() -> tuple[PriorRow, ...]:
    """Return the shipped table."""
    content = json.loads(files("fallow.study").joinpath("priors.json").read_text(encoding="utf-8"))
    return tuple(content["rows"])


def _family(data: str) -> str:
    """Return the data set of a row; ``clothing/pixels`` are the clothes seen by another backbone."""
    return data.split("/")[0]


def prior(rung: RungName, per_class: float, without: str | None = None) -> Prior:
    """Return the expected gain of ``rung`` over labels only.

    A kernel mean over log2(labels a class); data sets weigh equally, however many cells they have, because the next
    user's data are a new data set and not a new draw of an old one.

    Args:
        rung: Name of the rung.
        per_class: Labels a class of the data at hand.
        without: Data set to leave out (leave-one-out in the benchmarks).
    """
    by_data: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows():
        if row["rung"] != rung or _family(row["data"]) == without:
            continue
        distance = (log2(row["per_class"]) - log2(max(per_class, 1.0))) / _BANDWIDTH
        # A floor keeps a data set in, weakly, when all its cells are far away: better than no prior at all.
        weight = max(2.718281828 ** (-0.5 * distance**2), 1e-4)
        by_data.setdefault(row["data"], []).append((weight, row["gain"], row["sd"]))
    if not by_data:
        return _UNKNOWN
    means, variances, weights = [], [], []
    for cells in by_data.values():
        total = sum(w for w, _, _ in cells)
        means.append(sum(w * g for w, g, _ in cells) / total)
        variances.append(sum(w * s * s for w, _, s in cells) / total)
        weights.append(max(w for w, _, _ in cells))
    total = sum(weights)
    mean = sum(w * m for w, m in zip(weights, means, strict=True)) / total
    within = sum(w * v for w, v in zip(weights, variances, strict=True)) / total
    between = sum(w * (m - mean) ** 2 for w, m in zip(weights, means, strict=True)) / total
    return Prior(mean, max(sqrt(within + between), 0.01))
