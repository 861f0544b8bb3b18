"""What rungs gained over labels only on the benchmark data sets: the prior of the chooser.

``priors.json`` is written by ``benchmarks/priors.py`` from measured runs and shipped with the package. It holds one
row per data set, rung and number of labels a class: mean gain over the draws, its standard deviation, the draws.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from math import exp, log2, sqrt
from typing import TypedDict

from fallow.study.choose import Prior
from fallow.types import RungName

_BANDWIDTH = 1.0
"""Rows at half or twice the labels a class count exp(-1/2) as much as rows at the same number."""
_LEAST_SD = 0.03
"""A new data set can always surprise: with many labels a class the few known ones agree to within a point, and their
agreement must not outweigh hundreds of held-out labels that say otherwise."""
_BETWEEN = 0.05
"""Spread between data sets of a rung that was measured on one."""
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


def prior(rung: RungName, per_class: float, without: str | None = None) -> Prior:
    """Return the expected gain of ``rung`` over labels only.

    A kernel mean over log2(labels a class) within each data set; data sets weigh equally, however many cells they
    have, because the next user's data are a new data set and not a new draw of an old one. The spread is that of a
    prediction for a new data set: between data sets, within them over draws, and of the mean itself.

    Args:
        rung: Name of the rung.
        per_class: Labels a class of the data at hand.
        without: Data set to leave out (leave-one-out in the benchmarks).
    """
    by_data: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows():
        if row["rung"] != rung or row["data"] == without:
            continue
        distance = (log2(row["per_class"]) - log2(max(per_class, 1.0))) / _BANDWIDTH
        # A floor keeps a data set in, weakly, when all its cells are far away: better than no prior at all.
        weight = max(exp(-0.5 * distance**2), 1e-4)
        by_data.setdefault(row["data"], []).append((weight, row["gain"], row["sd"]))
    if not by_data:
        return _UNKNOWN
    within = [_mean_and_variance(cells) for cells in by_data.values()]
    near = [max(w for w, _, _ in cells) for cells in by_data.values()]
    mean, between = _weighted([m for m, _ in within], near)
    inside, _ = _weighted([v for _, v in within], near)
    count = len(by_data)
    # What one data set says of others is not known from it.
    between = between * count / (count - 1) if count > 1 else _BETWEEN**2
    return Prior(mean, max(sqrt(inside + between * (1 + 1 / count)), _LEAST_SD))


def _mean_and_variance(cells: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Return mean and variance of one draw from the cells (weight, gain, sd) of a data set."""
    weights = [w for w, _, _ in cells]
    mean, spread = _weighted([g for _, g, _ in cells], weights)
    noise, _ = _weighted([s * s for _, _, s in cells], weights)
    return mean, spread + noise


def _weighted(values: list[float], weights: list[float]) -> tuple[float, float]:
    """Return weighted mean and variance."""
    total = sum(weights)
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / total
    return mean, sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True)) / total
