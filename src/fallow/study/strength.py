"""How strongly a linear head is held back, found inside the labels that it learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fallow.data import assign_folds, default_folds
from fallow.models import DEFAULT_STRENGTH, fit_logistic
from fallow.study.context import RungContext
from fallow.study.rung import Fold
from fallow.types import Json

STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)
SEARCH_FROM = 100
"""Labels from which the strength is searched; below, the default of many data sets knows more than a few labels do."""
PARTS = 3
"""Into how many parts labels are dealt inside a fold, at most."""


def inner_parts(y: NDArray[np.int64], groups: list[str], seed: int) -> list[NDArray[np.int64]]:
    """Return the positions that each of three folds inside the training labels holds out; none with one label in a class."""
    folds = min(default_folds(y.tolist()), PARTS)
    if folds < 2:
        return []
    dealt = assign_folds(y.tolist(), groups, folds, 1, seed)[0]
    held = [np.flatnonzero(dealt == f) for f in range(folds)]
    return [part for part in held if len(part)]


def strength_losses(
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    classes: int,
    parts: list[NDArray[np.int64]],
    strengths: Sequence[float] = STRENGTHS,
) -> dict[float, float]:
    """Return the summed held-out cross-entropy of each inverse penalty.

    Args:
        x: Features, (n, d).
        y: Classes, (n,).
        classes: Number of classes.
        parts: Positions to hold out, one part after the other.
        strengths: What is tried, from strong to weak regularization.
    """
    losses = dict.fromkeys(strengths, 0.0)
    for held in parts:
        rest, head = np.setdiff1d(np.arange(len(y)), held), None
        for strength in strengths:  # each a warm start for the next
            head = fit_logistic(x[rest], y[rest], n_classes=classes, strength=strength, start=head)
            probs = head.probs(x[held])[np.arange(len(held)), y[held]]
            losses[strength] -= float(np.log(np.maximum(probs, 1e-6)).sum())
    return losses


def labels_strength(
    ctx: RungContext, fold: Fold | None, x: NDArray[np.float32], y: NDArray[np.int64], classes: int
) -> tuple[float, dict[str, Json]]:
    """Return the inverse penalty of a labels-only head, and what it was chosen by.

    Pinned, or the default below `SEARCH_FROM` labels, else cross-fitted inside these labels.

    Args:
        ctx: What was asked for, and the groups.
        fold: What is held out; only labels outside of it are among ``y``.
        x: Features of the labels that the fold may see, (n, d).
        y: Their classes, (n,).
        classes: Number of classes.
    """
    asked = ctx.config.probe.strength
    if isinstance(asked, float | int) and not isinstance(asked, bool):
        return float(asked), {}
    groups = [ctx.data.groups[i] for i in ctx.train_positions(fold)]
    parts = [] if len(y) < SEARCH_FROM else inner_parts(y, groups, ctx.seed(fold))
    if not parts:
        return DEFAULT_STRENGTH, {"labels": len(y)}
    losses = strength_losses(x, y, classes, parts)
    best = min(losses, key=lambda s: losses[s])
    return best, {f"loss at {s:g}": round(v / len(y), 4) for s, v in losses.items()}
