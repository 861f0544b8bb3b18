"""What can be said of features: with labels, how well classes are told apart; without, how they spread and hold still."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fallow.data import default_folds
from fallow.models import fit_logistic, softmax, unit_length
from fallow.study.evidence import OutOfFold
from fallow.study.probing.deal import held_out
from fallow.study.probing.neighbors import vote
from fallow.study.probing.vectors import Array, standardized

_NEIGHBORS = 20
"""That vote: of few labels most of VISSL's 200 would be of other classes."""
_FITS, _FEW = 20, 1000
_AROUND = 10
"""Neighbors whose staying is counted."""


def deal(y: NDArray[np.int64], groups: tuple[str, ...], seed: int) -> list[NDArray[np.int64]]:
    """Return which images each fold holds out; an empty list where nothing can be.

    As many folds as the smallest class has labels, five at most, repeated until about twenty fits are made.
    """
    repeats = max(1, round(_FITS / max(default_folds(y.tolist()), 1))) if len(y) <= _FEW else 1
    return [held for parts in held_out(y, groups, seed, repeats) for held in parts]


def probe(evidence: OutOfFold, name: str, features: Array, held: NDArray[np.int64], number: int) -> None:
    """Fit a linear probe on a fold's other images and add what it says of those held out."""
    rest = np.setdiff1d(np.arange(len(features)), held)
    x = standardized(features, features[rest])
    head = fit_logistic(x[rest], evidence.y[rest], n_classes=evidence.classes)
    evidence.add(name, str(number), held, softmax(head.logits(x[held])))


def knn_accuracy(features: Array, y: NDArray[np.int64], folds: list[NDArray[np.int64]]) -> float:
    """Return how often the nearest images of the other folds, which vote as in `vote`, name an image rightly."""
    right = total = 0
    for held in folds:
        rest = np.setdiff1d(np.arange(len(features)), held)
        center = features[rest].mean(0)
        bank, k = unit_length(features[rest] - center), min(_NEIGHBORS, len(rest))
        (named,) = vote(bank, y[rest], unit_length(features[held] - center), (k,), int(y.max()) + 1)
        right += int((named == y[held]).sum())
        total += len(held)
    return right / total


def neighbors(features: Array, others: Array | None = None) -> NDArray[np.int64]:
    """Return the nearest rows of ``features`` by cosine, of each row itself (not counted) or of ``others``; (n, 10) or fewer."""
    likeness = unit_length(features if others is None else others) @ unit_length(features).T
    np.fill_diagonal(likeness, -np.inf)  # a noised view's own image is no neighbor either
    k = min(_AROUND, len(features) - 1)
    found: NDArray[np.int64] = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    return found


def shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return which share of the neighbors in ``one`` are in ``other`` too, row by row."""
    return float((one[:, :, None] == other[:, None, :]).any(2).mean()) if one.size else 1.0


def cka(one: Array, other: Array) -> float:
    """Return linear CKA of two sets of features of the same images, 0 to 1 (Kornblith et al. 2019, arXiv 1905.00414, eq. 5)."""
    x, z = (np.asarray(f - f.mean(0), np.float64) for f in (one, other))
    top = np.linalg.norm(x.T @ z) ** 2
    return float(top / (np.linalg.norm(x.T @ x) * np.linalg.norm(z.T @ z) + 1e-300))
