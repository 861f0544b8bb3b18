"""Labeled images of another origin: how much they count is searched on the data's own labels, and may be nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from fallow.data import WithExtra, stratified
from fallow.methods import ExtraRows, fit_with_extra
from fallow.models import LinearHead, Space
from fallow.record import Decision
from fallow.report.words import plural
from fallow.study.context import RungContext
from fallow.study.data import StudyData
from fallow.study.inputs import FrozenInputs
from fallow.study.rung import Fold
from fallow.study.strength import PARTS, inner_parts, labels_strength
from fallow.types import Json

WEIGHT = "extra.weight"
MASSES = (0.0, 0.1, 0.3, 1.0, 3.0)
"""What all extra images together may count, in terms of the labels. Nothing is always among it."""
MASS_OF_MANY = 10.0
"""Tried too where there are so many times as many extra images as labels, each of which then counts no more than a label. With 2
labels and 100 extra images a class of the same kind it takes a third off the error of propagation that 3 leaves (digits, three development draws)."""
_ASKED, _DEALS = 60, 3
"""The labels are dealt into parts until so many were asked, and so often at most: few labels need more than one deal."""
_APART = 7919
"""Between the seeds of two deals: those of two folds are neighbors."""
_SEARCHED_WITH = 2000
"""Extra images at most that the search learns from, drawn by class: it asks what they are worth, and not what they teach."""
_ALONE_RIGHT, _ALONE_CHANCE, _ALONE_MASS = 0.5, 0.05, 1.0
"""With one label in a class: the share of the labels that a head from extra images alone must name, how likely guessing may do
as well, and what they count then. On development draws of digits and UC Merced it named 0.48 to 1.0 where they helped at any
mass, and 0.0 to 0.3 where they harmed."""
_SEARCH_RULE = (
    "How much all extra images count, your labels being 1: the lowest log-loss on held-out labels inside the training labels; 0 "
    "unless it gains more than one standard error."
)
_ALONE_RULE = (
    "With one label in a class there is none to spare: the extra images count as much as the labels where a head that learned "
    "from them alone names at least half of the labels, and more than guessing does in one case of twenty; else nothing."
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class _Rows:
    """What one space shows of labels and extra images.

    Attributes:
        labeled: Mapped vectors of the labels that the fold may see, (n, k).
        extra: Mapped vectors of the extra images of the search, (e, k).
        strength: Inverse penalty of the labels-only head.
    """

    labeled: Array
    extra: Array
    strength: float


def extra_mass(ctx: RungContext, fold: Fold | None, found: FrozenInputs) -> float:
    """Return what all extra images together count in a fold, in terms of its labels; 0 where there are none.

    Searched with the labels that the fold may see and no others, once for all of its rungs.

    Args:
        ctx: Data, vectors, decisions.
        fold: What is held out; None is the final refit, which writes the decision down.
        found: The inputs of the fold.
    """
    if not ctx.data.extra_ids:
        return 0.0
    key = (ctx.scratch_key(fold), WEIGHT)
    if key not in ctx.scratch:
        ctx.scratch[key] = _decide(ctx, fold, found)
    made: Decision = ctx.scratch[key]
    if fold is None:
        ctx.decisions.add(made)
    return float(made.value)  # type: ignore[arg-type]


def extra_rows(ctx: RungContext, found: FrozenInputs, space: Space, mass: float) -> ExtraRows | None:
    """Return the extra images as rows of a fit in one space; None where they count nothing.

    Args:
        ctx: Data and vectors.
        found: The inputs of the fold.
        space: Which vectors.
        mass: From `extra_mass`.
    """
    if mass == 0.0:
        return None
    labels = int((found.labels >= 0).sum())
    return ExtraRows(found.extra(space), ctx.data.extra_y, mass * labels / len(ctx.data.extra_y))


def search_fits(labels: int) -> int:
    """Return how many heads a search fits at most, in each space."""
    return _deals(labels) * PARTS * (len(MASSES) + 1)


def _deals(labels: int) -> int:
    return max(1, min(_DEALS, round(_ASKED / max(labels, 1))))


def extra_notes(data: StudyData) -> list[str]:
    """Return what a person should know of the extra images that are not used, a sentence each; nothing where there are none."""
    source = data.audit.source
    if not isinstance(source, WithExtra):
        return []
    left = [plural(count, f"image {why}", f"images {why}") for why, count in sorted(source.left_out.items())]
    notes = [f"Of the extra images {' and '.join(left)} were not used."] if left else []
    if copies := sum(leak.split == "extra" for leak in data.audit.leaks):
        which = plural(copies, "extra image that is", "extra images that are")
        notes.append(f"Left out: {which} among your own labeled or test images too.")
    return notes


def _decide(ctx: RungContext, fold: Fold | None, found: FrozenInputs) -> Decision:
    asked = ctx.config.extra.weight
    if asked != "auto":
        return Decision(WEIGHT, float(asked), "user", "Asked for.", pinned=True)
    y, train = found.labels[found.labels >= 0], ctx.train_positions(fold)
    groups = [ctx.data.groups[i] for i in train]
    some = stratified(ctx.data.extra_y, _SEARCHED_WITH, np.random.default_rng(ctx.config.seed))
    theirs, classes = ctx.data.extra_y[some], len(ctx.data.classes)
    rows = []
    for space in found.spaces:
        x = found.known(space)[1]
        strength = labels_strength(ctx, fold, x, y, classes)[0]
        rows.append(_Rows(x, found.extra(space)[some], strength))
    deals = [inner_parts(y, groups, ctx.seed(fold) + _APART * deal) for deal in range(_deals(len(y)))]
    if not deals[0]:
        return _alone(rows, y, theirs, classes)
    many = len(ctx.data.extra_y) >= MASS_OF_MANY * len(y)
    masses = (*MASSES, MASS_OF_MANY) if many else MASSES
    parts = [part for parts in deals for part in parts]
    return _searched(mass_losses(rows, y, theirs, classes, parts, masses))


def mass_losses(
    rows: Sequence[_Rows],
    y: NDArray[np.int64],
    extra_y: NDArray[np.int64],
    classes: int,
    parts: Sequence[NDArray[np.int64]],
    masses: Sequence[float] = MASSES,
) -> dict[float, NDArray[np.float64]]:
    """Return for each mass the held-out log-loss of every label, the mean over the parts that held it out, (labels,).

    Args:
        rows: What each space shows; the mean of their log-probabilities is judged, as it is in the model.
        y: Classes of the labels, (n,).
        extra_y: Classes of the extra images, (e,).
        classes: Number of classes.
        parts: Positions to hold out, one part after the other.
        masses: What is tried, from little to much.
    """
    total = {mass: np.zeros(len(y)) for mass in masses}
    seen = np.zeros(len(y))
    for held in parts:
        rest = np.setdiff1d(np.arange(len(y)), held)
        seen[held] += 1
        heads: list[LinearHead | None] = [None] * len(rows)
        for mass in masses:  # each a warm start for the next
            logs = []
            for i, space in enumerate(rows):
                theirs = ExtraRows(space.extra, extra_y, mass * len(rest) / len(extra_y)) if mass else None
                head = fit_with_extra(space.labeled[rest], y[rest], classes, space.strength, theirs, heads[i])
                heads[i] = head
                logs.append(np.log(np.maximum(head.probs(space.labeled[held]), 1e-6)))
            total[mass][held] += _loss(logs, y[held])
    return {mass: sums[seen > 0] / seen[seen > 0] for mass, sums in total.items()}


def _searched(losses: dict[float, NDArray[np.float64]]) -> Decision:
    """Return the mass of the lowest loss, or 0 where the gain is no larger than its standard error."""
    best = min(losses, key=lambda mass: float(losses[mass].mean()))
    gain = losses[0.0] - losses[best]
    error = float(gain.std(ddof=1)) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    evidence: dict[str, Json] = {f"loss at {mass:g}": round(float(v.mean()), 4) for mass, v in losses.items()}
    evidence |= {"gain": round(float(gain.mean()), 4), "standard_error": round(float(error), 4)}
    value = best if float(gain.mean()) > error else 0.0
    return Decision(WEIGHT, value, "search", _SEARCH_RULE, {"labels": len(gain), **evidence})


def _alone(rows: Sequence[_Rows], y: NDArray[np.int64], extra_y: NDArray[np.int64], classes: int) -> Decision:
    """Return what extra images count where no label can be spared: they are asked whether they know the labels."""
    logs = [
        np.log(np.maximum(fit_with_extra(r.extra, extra_y, classes, r.strength, None).probs(r.labeled), 1e-6))
        for r in rows
    ]
    right = int((np.mean(logs, axis=0).argmax(1) == y).sum())
    guessing = float(binom.sf(right - 1, len(y), 1 / classes))
    value = _ALONE_MASS if right >= _ALONE_RIGHT * len(y) and guessing < _ALONE_CHANCE else 0.0
    return Decision(WEIGHT, value, "search", _ALONE_RULE, {"labels": len(y), "named_rightly": right})


def _loss(logs: Sequence[Array], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log-loss of each image under the mean of the spaces' log-probabilities, (n,)."""
    mean = np.asarray(np.mean(logs, axis=0), np.float64)
    norm = np.log(np.exp(mean).sum(1))
    return np.asarray(norm - mean[np.arange(len(y)), y], np.float64)
