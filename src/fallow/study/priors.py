"""What rungs gained over one another on the benchmark data sets: the prior of the chooser.

``priors.json`` is written by ``benchmarks/priors.py`` from measured runs and shipped with the package. It holds one
row per data set, pair of rungs and number of labels a class: mean gain of the one over the other on the same draws, its
standard deviation, the draws. A pair is a row of its own because gains over labels only go together: where spreading gains
much training does too, and what the one gains over the other varies far less than either.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from math import exp, log2, sqrt
from typing import Literal, TypedDict

from fallow.study.choose import Prior
from fallow.types import RungName

Network = Literal["scratch", "pretrained"]

_BANDWIDTH = 1.0
"""Rows at half or twice the labels a class count exp(-1/2) as much as rows at the same number."""
_OTHER_NETWORK = 0.3
"""How much a data set counts on which the trained rungs had another kind of network: a small one from random weights and
the last blocks of a pretrained one are not quite the same rung."""
_LEAST_SD = 0.03
"""A new data set can always surprise: with many labels a class the few known ones agree to within a point, and their
agreement must not outweigh hundreds of held-out labels that say otherwise."""
_BETWEEN = 0.05
"""Spread between data sets of a pair that was measured on one."""
_ALONE = 1.2
"""With no more data sets than this that count, there is no telling how they differ."""
_UNKNOWN = Prior(0.0, 0.05)
"""A rung with no benchmark row is expected to be equal to labels only, give or take five points."""


class PriorRow(TypedDict):
    """One measured cell; ``network`` is what the trained rungs trained, None where neither rung trains one."""

    data: str
    network: Network | None
    rung: str
    over: str
    per_class: float
    gain: float
    sd: float
    draws: int


@lru_cache(maxsize=1)
def rows() -> tuple[PriorRow, ...]:
    """Return the shipped table."""
    content = json.loads(files("fallow.study").joinpath("priors.json").read_text(encoding="utf-8"))
    return tuple(content["rows"])


def prior(
    rung: RungName,
    per_class: float,
    *,
    over: RungName = "probe",
    network: Network | None = None,
    without: str | None = None,
) -> Prior:
    """Return the expected gain of ``rung`` over another.

    A kernel mean over log2(labels a class) within each data set; data sets weigh equally, however many cells they
    have, because the next user's data are a new data set and not a new draw of an old one. The spread is that of a
    prediction for a new data set: between data sets, within them over draws, and of the mean itself.

    Args:
        rung: Name of the rung.
        per_class: Labels a class of the data at hand.
        over: The rung that it is compared with.
        network: What the trained rungs train; data sets with another kind count a third. None: all count alike.
        without: Data set to leave out (leave-one-out in the benchmarks).
    """
    by_data: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows():
        if (row["rung"], row["over"]) != (rung, over) or row["data"] == without:
            continue
        distance = (log2(row["per_class"]) - log2(max(per_class, 1.0))) / _BANDWIDTH
        # A floor keeps a data set in, weakly, when all its cells are far away: better than no prior at all.
        weight = max(exp(-0.5 * distance**2), 1e-4)
        if None not in (network, row["network"]) and row["network"] != network:
            weight *= _OTHER_NETWORK
        by_data.setdefault(row["data"], []).append((weight, row["gain"], row["sd"]))
    if not by_data:
        return _UNKNOWN if over == "probe" else _through_probe(rung, over, per_class, network, without)
    within = [_mean_and_variance(cells) for cells in by_data.values()]
    near = [max(w for w, _, _ in cells) for cells in by_data.values()]
    mean, between = _weighted([m for m, _ in within], near)
    inside, _ = _weighted([v for _, v in within], near)
    count = sum(near) ** 2 / sum(w * w for w in near)  # data sets that count, far ones less
    # What one data set says of others is not known from it.
    between = between * count / (count - 1) if count > _ALONE else _BETWEEN**2
    return Prior(mean, max(sqrt(inside + between * (1 + 1 / count)), _LEAST_SD))


def _through_probe(
    rung: RungName, over: RungName, per_class: float, network: Network | None, without: str | None
) -> Prior:
    """Return what is expected of a pair that was never measured on the same draws: both over labels only, as if unrelated."""
    one, other = (prior(name, per_class, network=network, without=without) for name in (rung, over))
    return Prior(one.mean - other.mean, sqrt(one.sd**2 + other.sd**2))


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
