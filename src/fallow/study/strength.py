"""How strongly a linear head is held back, found inside the labels that it learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fallow.data import assign_folds, default_folds
from fallow.models import fit_logistic

STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)
SEARCH_FROM = 100
"""Labels from which the strength is searched; below, the default of many data sets knows more than a few labels do."""
_PARTS = 3


def inner_parts(y: NDArray[np.int64], groups: list[str], seed: int) -> list[NDArray[np.int64]]:
    """Return the positions that each of three folds inside the training labels holds out; none with one label in a class."""
    folds = min(default_folds(y.tolist()), _PARTS)
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
