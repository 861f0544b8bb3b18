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
"""Spreads that five data sets cannot be trusted to be smaller than: with 0.2 and 0.1, intervals for a data set whose cells
were left out held its error at four times the labels in 78 % of development cells with all classes, with these in 80 %."""
_LABELS = 10.0
"""Labels a class at which the exponents and ratios are given."""
_ELSEWHERE = 0.25
"""Standard deviation that the ratio gains with each e-fold of labels away from there."""
_RISE, _SPREADING = 0.2, 0.3
"""How much the logarithm of the ratio rises with each e-fold of labels, up to twice as many as that: with few labels fits
disagree more than they err. More so for propagation, whose lead over labels only melts: on development cells of the ladder
(digits, UC Merced) it is 0.5 at 5 labels a class and 0.3 at 10."""
_ASYMPTOTE, _WANDER = 0.02, 0.03
_BEND, _DRAWS = 0.3, 1.6
"""Held-out errors are further from the law than counting says, for the labels that were learned from are a draw as well;
those of a quarter of the labels the more, for curves are bent. With 1.2 the error at the labels at hand was held 3 to 4
points less often, on development cells."""
_AT = 0.1
"""The error and the disagreement at which means are given."""
_RIDGE = 0.02
"""Pull of slopes to zero, in units of one standard deviation of what they go with: there are five data sets."""


@dataclass(frozen=True)
class Learned:
    """What the cells of all data sets say of one rung.

    Attributes:
        ratio: Logarithm of the error over the disagreement of labels-only fits: the mean where they disagree on 10 %; how
            much larger it is for each e-fold of disagreement; and for each unit by which doubt falls faster (`Curve.fade`).
        ratio_sd: Its spread around that.
        exponent: Exponent of the error: the mean at an error of 10 %; how much larger it is for each e-fold of the error;
            and for each unit of fade.
        exponent_sd: Its spread around that.
    """

    ratio: tuple[float, float, float]
    ratio_sd: float
    exponent: tuple[float, float, float]
    exponent_sd: float


def learn(rows: list[dict[str, Any]], fading: bool = True) -> Learned:
    """Return what cells say; every data set counts the same, however many cells it has.

    What counting on a finite number of test images adds to the spreads is taken out of them.

    Args:
        rows: With ``data``, ``disagreement`` (of labels-only fits on most of the labels) and their ``fade``, ``per_class``
            labels, ``error`` with the labels at hand and ``later`` with ``factor`` times as many, on ``images`` test images.
        fading: Whether the fade is known where this will be used; else both slopes on it are zero.
    """
    names = [row["data"] for row in rows]
    error, later, images, factor, disagreement, fade = (
        np.array([row[key] for row in rows], np.float64)
        for key in ("error", "later", "images", "factor", "disagreement", "fade")
    )
    error, later = ((share * images + 0.5) / (images + 1) for share in (error, later))
    counted = (1 - error) / (error * images)  # variance of the logarithm of a share that was counted
    rise = np.array([_rise(row["rung"], row["per_class"]) for row in rows])
    extra = [fade] if fading else []
    ratio, ratio_sd = _line(
        names,
        [np.log(disagreement / _AT), *extra],
        np.log(error / disagreement) - rise,
        counted,
    )
    both = (counted + (1 - later) / (later * images)) / np.log(factor) ** 2
    exponent, exponent_sd = _line(
        names, [np.log(error / _AT), *extra], np.log(error / later) / np.log(factor), both
    )
    return Learned(ratio, max(ratio_sd, _LEAST_RATIO_SD), exponent, max(exponent_sd, _LEAST_EXPONENT_SD))


def _line(
    names: list[str], columns: list[Array], target: Array, counted: Array
) -> tuple[tuple[float, float, float], float]:
    """Fit a plane through all cells; return its three coefficients (the last 0 with one column) and the spread around it.

    Args:
        names: Data set of each cell.
        columns: What the target goes with, one or two of (cells,).
        target: (cells,).
        counted: Variance of each target that is from counting, (cells,).
    """
    sets, place = np.unique(names, return_inverse=True)
    weight = 1.0 / (counted + float(np.var(target)) / 4)
    weight /= np.bincount(place, weight)[place] * len(sets)
    x = np.stack(columns, 1)
    center, scale = x.mean(0), x.std(0) + 1e-9
    design = np.concatenate([np.ones((len(x), 1)), (x - center) / scale], 1)
    pull = np.diag([0.0, *[_RIDGE] * x.shape[1]])
    found = np.linalg.solve((design * weight[:, None]).T @ design + pull, design.T @ (weight * target))
    rest = float(weight @ (target - design @ found) ** 2)
    slopes = found[1:] / scale
    spread = math.sqrt(max(rest - float(weight @ counted), 0.0)) * _few(len(sets))
    return (
        float(found[0] - slopes @ center),
        float(slopes[0]),
        float(slopes[1]) if len(slopes) > 1 else 0.0,
    ), spread


def _rise(rung: RungName, per_class: float) -> float:
    away = math.log(max(per_class, 1.0) / _LABELS)
    return (_RISE + (_SPREADING if rung == "propagate" else 0.0)) * min(away, math.log(2.0))


def _few(sets: int) -> float:
    """Return how much wider 80 % of a new data set is than the spread of those few that were seen says.

    The spread is from the ``sets - 1`` that are free, the mean is uncertain itself, and the tails are Student's.
    """
    free = max(sets - 1, 1)
    tails = float(student_t.ppf(0.9, free) / norm.ppf(0.9))
    return tails * math.sqrt(sets / free) * math.sqrt(1 + 1 / sets)


@cache
def learned(rung: RungName, without: str | None = None, fading: bool = True) -> Learned:
    """Return what the shipped cells say of a rung, one data set left out for benchmarks on it."""
    rows = json.loads(_FILE.read_text(encoding="utf-8"))
    return learn([row for row in rows if row["rung"] == rung and row["data"] != without], fading)


def prior_of(
    rung: RungName,
    disagreement: float,
    folds: int,
    per_class: float = _LABELS,
    fade: float = math.nan,
    without: str | None = None,
) -> LawPrior:
    """Return the prior of a rung's law.

    Args:
        rung: ``probe`` or ``propagate``.
        disagreement: Of labels-only fits on most of the labels; NaN where there are no unlabeled images.
        folds: Into how many parts the labels were dealt.
        per_class: Labels a class at hand.
        fade: How fast the doubt of labels-only fits falls, `Curve.fade`; NaN where it is unknown.
        without: A data set to leave out.
    """
    fading = bool(np.isfinite(fade))
    known, fade = learned(rung, without, fading), fade if fading else 0.0
    says = np.isfinite(disagreement) and disagreement > 0 and folds == AGREEING_FOLDS
    level = None
    if says:
        mean, by_disagreement, by_fade = known.ratio
        ratio = mean + by_disagreement * math.log(disagreement / _AT) + by_fade * fade
        level = math.log(disagreement) + ratio + _rise(rung, per_class)
    mean, by_error, by_fade = known.exponent
    return LawPrior(
        level,
        math.hypot(known.ratio_sd, _ELSEWHERE * math.log(max(per_class, 1.0) / _LABELS)),
        mean + by_fade * fade,
        by_error,
        known.exponent_sd,
        _ASYMPTOTE,
        _WANDER,
        _BEND,
        _DRAWS,
    )
