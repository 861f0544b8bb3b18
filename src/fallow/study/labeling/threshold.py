"""Which labels are accepted: by an estimated precision, by one that can be certified, or by their number."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from fallow.report.words import percent
from fallow.study.labeling.evidence import HeldOut

Floats = NDArray[np.float64]
_LEVEL = 0.95
_GRID = 40
"""Thresholds that are tried when certifying."""
NOBODY = "no image may be accepted: all of them seem to be of no class"


@dataclass(frozen=True, eq=False)
class Choice:
    """What was accepted and why.

    Attributes:
        accepted: bool (pool,).
        threshold: Least probability that was accepted; 1 where nothing was.
        why: A sentence; empty where all went as asked.
        certified: Lower bound that was shown; None where none was asked for.
    """

    accepted: NDArray[np.bool_]
    threshold: float
    why: str = ""
    certified: float | None = None


def by_precision(probability: Floats, may: NDArray[np.bool_], target: float) -> Choice:
    """Accept as many as keep the mean probability of being right at ``target``, the surest first.

    Args:
        probability: Calibrated probability of each label, (pool,).
        may: Images that may be accepted at all, (pool,).
        target: Precision that is aimed at.
    """
    order = _surest(probability, may)
    sure = probability[order]
    means = np.cumsum(sure) / np.arange(1, len(order) + 1)
    count = int((means >= target).sum())  # means only fall
    if not count:
        if not len(order):
            return _none(may, NOBODY)
        return _none(
            may,
            f"no label reaches a precision of {target:g}: the surest is right with {percent(sure[0])} by estimate",
        )
    return _first(may, order, count, probability)


def by_coverage(probability: Floats, may: NDArray[np.bool_], coverage: float) -> Choice:
    """Accept this share of all images, the surest first; fewer where not so many may be accepted."""
    order = _surest(probability, may)
    wanted = max(1, round(coverage * len(may)))
    if not len(order):
        return _none(may, NOBODY)
    made = _first(may, order, min(wanted, len(order)), probability)
    if wanted <= len(order):
        return made
    why = f"only {len(order):,} of the {wanted:,} labels asked for were accepted: the other images seem to be of no class"
    return Choice(made.accepted, made.threshold, why)


def by_certificate(
    probability: Floats,
    may: NDArray[np.bool_],
    target: float,
    held_out: HeldOut,
    held_probability: Floats,
    weights: Floats | None = None,
) -> Choice:
    """Accept as many as can be shown to be right at least ``target`` of the time, wrong in 5 % of such statements at most.

    Fixed-sequence testing (Learn then Test: Angelopoulos et al. 2021, arXiv 2110.01052): thresholds are tried from the strictest
    that enough held-out answers reach to the loosest, each with an exact binomial bound, and the last before the first that fails
    is taken; so that trying many costs nothing. Which thresholds are tried depends on how sure the answers are, never on
    whether they are right.

    Args:
        probability: Calibrated probability of each label of the pool, (pool,).
        may: Images that may be accepted at all, (pool,).
        target: Precision to certify.
        held_out: The answers on held-out labels.
        held_probability: The same probability for each of these answers, (rows,).
        weights: What each labeled image counts, (labels,); the effective number of images shrinks accordingly.
    """
    need = answers_needed(target, held_out.looks)
    bounds = _bounds(held_out, held_probability, weights, need, probability[may])
    if not bounds:
        return _none(
            may,
            f"not certifiable with {held_out.labels} held-out {'label' if held_out.labels == 1 else 'labels'}: "
            f"a precision of {target:g} needs {need} sure answers of which all {need} are right",
        )
    passed = []
    for threshold, bound in bounds:
        if bound < target:
            break
        passed.append((threshold, bound))
    if not passed:
        return _none(
            may,
            f"not certifiable with {held_out.labels} held-out labels: of the surest answers so many are wrong that the lower "
            f"95 % bound is {percent(bounds[0][1])}, below {target:g}",
        )
    threshold, bound = passed[-1]
    accepted = may & (probability >= threshold)
    if not accepted.any():
        return _none(
            may,
            f"no unlabeled image is as sure as those that a precision of {target:g} could be certified for",
        )
    return Choice(accepted, threshold, certified=bound)


def answers_needed(target: float, looks: int = 1) -> int:
    """Return how many answers must be right without an error to certify ``target``: 59 for 0.95, 29 for 0.9."""
    return ceil(log((1 - _LEVEL) / looks) / log(target) - 1e-9)


def lower_bound(right: float, asked: float, looks: int = 1) -> float:
    """Return the exact one-sided 95 % lower bound of a share (Clopper and Pearson, Biometrika 1934); counts may be fractions.

    Where so many bounds are asked for, all of them hold together (Bonferroni).
    """
    from scipy.stats import beta

    if right <= 0 or asked <= 0:
        return 0.0
    return float(beta.ppf((1 - _LEVEL) / looks, right, asked - right + 1))


def _bounds(
    held_out: HeldOut, held: Floats, weights: Floats | None, need: int, pool: Floats
) -> list[tuple[float, float]]:
    """Return thresholds from strict to loose with the lower bound of the precision above each."""
    if not len(pool) or not len(held):
        return []
    image = np.ones(len(held_out.y)) if weights is None else weights
    count, found = held_out.share * image[held_out.where], []
    for threshold in np.unique(np.quantile(pool, np.linspace(0, 1, _GRID, endpoint=False)))[::-1]:
        above = held >= threshold
        total = float(count[above].sum())
        # Of one image several answers count once together, and images of unequal weight as fewer (Kish's number).
        each = np.bincount(held_out.where[above], count[above], len(held_out.y))
        asked = total**2 / max(float(each @ each), 1e-12) if weights is not None else total
        if asked < need:
            continue
        share = float((count[above] * held_out.right[above]).sum()) / total
        found.append((float(threshold), lower_bound(share * asked, asked, held_out.looks)))
    return found


def _surest(probability: Floats, may: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows = np.flatnonzero(may)
    return np.asarray(rows[np.argsort(-probability[rows], kind="stable")])


def _first(may: NDArray[np.bool_], order: NDArray[np.int64], count: int, probability: Floats) -> Choice:
    accepted = np.zeros(len(may), bool)
    accepted[order[:count]] = True
    return Choice(accepted, float(probability[order[count - 1]]))


def _none(may: NDArray[np.bool_], why: str) -> Choice:
    return Choice(np.zeros(len(may), bool), 1.0, why)
