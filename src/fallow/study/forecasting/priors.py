"""What other data sets say of learning curves: the priors of a forecast, shipped with the package."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from fallow.study.forecasting.power import LawPrior
from fallow.types import RungName

Array = NDArray[np.float64]

_FILE = Path(__file__).with_name("priors.json")
AGREEING_FOLDS = 5
"""Into how many parts labels were dealt where the ratio of error to disagreement was measured: with another number fits
share more or fewer labels, and it is another ratio."""
_LEAST_RATIO_SD, _LEAST_EXPONENT_SD = 0.25, 0.12
"""Spreads that five data sets cannot be trusted to be smaller than: with less, intervals for a data set whose cells were
left out held its error at four times the labels in 73 % of development cells (truth averaged over draws), not in 80 %."""
_LABELS = 10.0
"""Labels a class at which the shipped cells were measured."""
_ELSEWHERE = 0.25
"""Standard deviation that the ratio gains with each e-fold of labels away from there."""
_RISE, _SPREADING = 0.2, 0.3
"""How much the logarithm of the ratio rises with each e-fold of labels, up to twice as many as that: with few labels fits
disagree more than they err. More so for propagation, whose lead over labels only melts: on development cells of the ladder
(digits, UC Merced) it is 0.5 at 5 labels a class and 0.3 at 10."""
_ASYMPTOTE, _WANDER = 0.02, 0.03
_BEND, _DRAWS = 0.3, 1.2
"""Measured on development cells: the squared distance of the held-out error with most of the labels from the law through
the test errors is 0.9 to 1.1 times what counting says; with a quarter of them it is 2 to 4 times, for curves are bent."""
_AT = 0.1
"""The error at which the exponent's mean is given."""


@dataclass(frozen=True)
class Learned:
    """What the cells of all data sets say of one rung.

    Attributes:
        ratio: Mean logarithm of the error over the disagreement of labels-only fits.
        ratio_sd: Its spread.
        exponent: Mean exponent at an error of 10 %.
        by_error: How much larger it is for each e-fold of the error.
        exponent_sd: Its spread around that.
    """

    ratio: float
    ratio_sd: float
    exponent: float
    by_error: float
    exponent_sd: float


def learn(rows: list[dict[str, Any]]) -> Learned:
    """Return what cells say; every data set counts the same, however many cells it has.

    What counting on a finite number of test images adds to the spreads is taken out of them.

    Args:
        rows: With ``data``, ``disagreement`` (of labels-only fits on most of the labels), ``error`` with the labels at
            hand and ``later`` with ``factor`` times as many, both on ``images`` test images.
    """
    names = np.array([row["data"] for row in rows])
    sets, counts = np.unique(names, return_counts=True)
    weight = 1.0 / counts[np.searchsorted(sets, names)] / len(sets)
    few = _few(len(sets))
    error, later, images, factor = (
        np.array([row[key] for row in rows], np.float64) for key in ("error", "later", "images", "factor")
    )
    counted = (1 - error) / (error * images)  # variance of the logarithm of a share that was counted
    ratio = np.log(error) - np.log([row["disagreement"] for row in rows])
    mean = float(weight @ ratio)
    spread = _spread(float(weight @ (ratio - mean) ** 2), float(weight @ counted)) * few
    fall = np.log(error / later) / np.log(factor)
    design = np.stack([np.ones(len(rows)), np.log(error / _AT)], 1)
    root = np.sqrt(weight)
    found = np.linalg.lstsq(design * root[:, None], fall * root, rcond=None)[0]
    both = (counted + (1 - later) / (later * images)) / np.log(factor) ** 2
    rest = _spread(float(weight @ (fall - design @ found) ** 2), float(weight @ both)) * few
    return Learned(
        mean, max(spread, _LEAST_RATIO_SD), float(found[0]), float(found[1]), max(rest, _LEAST_EXPONENT_SD)
    )


def _few(sets: int) -> float:
    """Return how much wider 80 % of a new data set is than the spread of those few that were seen says.

    The spread is from the ``sets - 1`` that are free, the mean is uncertain itself, and the tails are Student's.
    """
    free = max(sets - 1, 1)
    tails = float(student_t.ppf(0.9, free) / norm.ppf(0.9))
    return tails * math.sqrt(sets / free) * math.sqrt(1 + 1 / sets)


def _spread(variance: float, counted: float) -> float:
    return math.sqrt(max(variance - counted, 0.0))


@cache
def learned(rung: RungName, without: str | None = None) -> Learned:
    """Return what the shipped cells say of a rung, one data set left out for benchmarks on it."""
    rows = json.loads(_FILE.read_text(encoding="utf-8"))
    return learn([row for row in rows if row["rung"] == rung and row["data"] != without])


def prior_of(
    rung: RungName, disagreement: float, folds: int, per_class: float = _LABELS, without: str | None = None
) -> LawPrior:
    """Return the prior of a rung's law.

    Args:
        rung: ``probe`` or ``propagate``.
        disagreement: Of labels-only fits on most of the labels; NaN where there are no unlabeled images.
        folds: Into how many parts the labels were dealt.
        per_class: Labels a class at hand.
        without: A data set to leave out.
    """
    known = learned(rung, without)
    away = math.log(max(per_class, 1.0) / _LABELS)
    rise = (_RISE + (_SPREADING if rung == "propagate" else 0.0)) * min(away, math.log(2.0))
    says = np.isfinite(disagreement) and disagreement > 0 and folds == AGREEING_FOLDS
    return LawPrior(
        math.log(disagreement) + known.ratio + rise if says else None,
        math.hypot(known.ratio_sd, _ELSEWHERE * away),
        known.exponent,
        known.by_error,
        known.exponent_sd,
        _ASYMPTOTE,
        _WANDER,
        _BEND,
        _DRAWS,
    )
