"""What can be said of features: with labels, how well classes are told apart; without, how they spread and hold still."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fallow.data import assign_folds, default_folds
from fallow.models import fit_logistic, softmax
from fallow.study.evidence import OutOfFold

Array = NDArray[np.float32]
_NEIGHBORS, _TEMPERATURE = 20, 0.07
"""Of the neighbors' vote, as Wu et al. 2018 (arXiv 1805.01978) and VISSL have it, with fewer neighbors: of few labels most
would be of other classes."""
_FITS = 20
_AROUND = 10
"""Neighbors whose staying is counted."""
_TINY = 1e-7


def standardized(features: NDArray[np.floating], like: NDArray[np.floating]) -> Array:
    """Return features centered and scaled so that those of ``like`` have a mean length of 1: any network's alike."""
    mean = like.mean(0)
    scale = float(np.linalg.norm(like - mean, axis=1).mean()) + _TINY
    return np.asarray((features - mean) / scale, np.float32)


def unit(features: NDArray[np.floating]) -> Array:
    """Return features of unit length."""
    return np.asarray(features / (np.linalg.norm(features, axis=1, keepdims=True) + _TINY), np.float32)


def deal(y: NDArray[np.int64], groups: tuple[str, ...], seed: int) -> list[NDArray[np.int64]]:
    """Return which images each fold holds out; an empty list where nothing can be.

    As many folds as the smallest class has labels, five at most, repeated until about twenty fits are made.
    """
    folds = default_folds(y.tolist())
    if not folds:
        return []
    repeats = max(1, round(_FITS / folds)) if len(y) <= 1000 else 1
    dealt = assign_folds(y.tolist(), groups, folds, repeats, seed)
    held = [np.flatnonzero(dealt[r] == f) for r in range(repeats) for f in range(folds)]
    return [positions for positions in held if len(positions)]


def probe(evidence: OutOfFold, name: str, features: Array, folds: list[NDArray[np.int64]]) -> None:
    """Fit a linear probe on each fold's other images and add what it says of those held out."""
    classes = evidence.classes
    for number, held in enumerate(folds):
        rest = np.setdiff1d(np.arange(len(features)), held)
        x = standardized(features, features[rest])
        head = fit_logistic(x[rest], evidence.y[rest], n_classes=classes)
        evidence.add(name, str(number), held, softmax(head.logits(x[held])))


def knn_accuracy(features: Array, y: NDArray[np.int64], folds: list[NDArray[np.int64]]) -> float:
    """Return how often the nearest images of the other folds name an image rightly (weights exp(cosine / 0.07))."""
    right = total = 0
    for held in folds:
        rest = np.setdiff1d(np.arange(len(features)), held)
        center = features[rest].mean(0)
        likeness = unit(features[held] - center) @ unit(features[rest] - center).T
        k = min(_NEIGHBORS, len(rest))
        near = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        weight = np.exp(np.take_along_axis(likeness, near, 1) / _TEMPERATURE)
        votes = np.zeros((len(held), int(y.max()) + 1))
        np.add.at(votes, (np.arange(len(held))[:, None], y[rest][near]), weight)
        right += int((votes.argmax(1) == y[held]).sum())
        total += len(held)
    return right / total


def neighbors(features: Array, others: Array | None = None) -> NDArray[np.int64]:
    """Return the nearest rows of ``features`` by cosine, of each row itself (not counted) or of ``others``; (n, 10) or fewer."""
    likeness = unit(features if others is None else others) @ unit(features).T
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
