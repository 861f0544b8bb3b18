"""Label spreading over a neighbor graph (Zhou et al., "Learning with Local and Global Consistency", NIPS
2003)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fallow.methods.neighbors import Neighbors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Array = NDArray[np.float32]

_COLUMNS_AT_ONCE = 64
_TINY = 1e-30


def affinity(neighbors: Neighbors | Sequence[Neighbors], sharpness: float = 4.0) -> csr_matrix:
    """Return the normalized graph ``D^-1/2 W D^-1/2``, float32 (n, n), symmetric, eigenvalues in [-1, 1].

    An edge weighs ``exp(-sharpness (distance / typical distance - 1))`` with distance = 1 - cosine and its
    median over the lists as the typical one, so that one sharpness suits tight and loose embeddings alike. It
    weighs half of that when only one end lists the other: hubs, which many list and which list few back,
    count less. Rows that point apart (cosine <= 0) share no edge. Several lists (of several embeddings) are
    averaged.

    Args:
        neighbors: Lists over the same rows.
        sharpness: The larger, the more the very nearest dominate.
    """
    from scipy.sparse import csr_matrix, diags

    lists = [neighbors] if isinstance(neighbors, Neighbors) else list(neighbors)
    n = len(lists[0])
    total = csr_matrix((n, n), dtype=np.float32)
    for one in lists:
        weight = _edge_weights(one.similarity, sharpness)
        starts = np.arange(n + 1, dtype=np.int64) * one.count
        directed = csr_matrix((weight.ravel(), one.index.ravel(), starts), shape=(n, n))
        total = total + (directed + directed.T) * np.float32(0.5 / len(lists))
    degree = np.asarray(total.sum(axis=1)).ravel()
    # An image without neighbors keeps a zero row: it hears from nobody, and nothing is divided by zero.
    scale = np.where(degree > 0, 1.0 / np.sqrt(np.maximum(degree, _TINY)), 0.0)
    return (diags(scale) @ total @ diags(scale)).astype(np.float32).tocsr()


def _edge_weights(similarity: Array, sharpness: float) -> Array:
    """Return the weight of each listed neighbor, float32 (n, k)."""
    near = similarity > 0
    distance = np.maximum(1.0 - similarity, 0.0)
    typical = max(float(np.median(distance[near])), 1e-6) if near.any() else 1.0
    return np.where(near, np.exp(-sharpness * (distance / typical - 1.0)), 0.0).astype(np.float32)


def spread(graph: csr_matrix, sources: Array, alpha: float, tol: float = 1e-3, max_steps: int = 200) -> Array:
    """Solve ``(I - alpha S) F = sources`` (Zhou et al., eq. 4 times 1/(1 - alpha)) by conjugate gradients.

    Args:
        graph: Normalized symmetric graph S (n, n).
        sources: (n, c), one column per class.
        alpha: How far labels travel, in [0, 1).
        tol: Residual, relative to each column's source, at which to stop.
        max_steps: Steps at most.

    Returns:
        F (n, c) float32, not negative.
    """
    out = np.empty(sources.shape, dtype=np.float32)
    for start in range(0, sources.shape[1], _COLUMNS_AT_ONCE):
        columns = slice(start, start + _COLUMNS_AT_ONCE)
        out[:, columns] = _solve(graph, np.ascontiguousarray(sources[:, columns]), alpha, tol, max_steps)
    return np.maximum(out, 0.0)


def _solve(graph: csr_matrix, right: Array, alpha: float, tol: float, max_steps: int) -> Array:
    """Conjugate gradients on all columns side by side."""
    x = right.copy()
    residual = alpha * (graph @ right)
    direction = residual.copy()
    energy = (residual * residual).sum(axis=0)
    goal = tol * tol * (right * right).sum(axis=0)
    for _ in range(max_steps):
        if (energy <= goal).all():
            break
        image = direction - alpha * (graph @ direction)
        step = energy / np.maximum((direction * image).sum(axis=0), _TINY)
        x += step * direction
        residual -= step * image
        new_energy = (residual * residual).sum(axis=0)
        direction *= new_energy / np.maximum(energy, _TINY)
        direction += residual
        energy = new_energy
    return x


def spread_labels(
    graph: csr_matrix, labels: NDArray[np.integer], n_classes: int, alpha: float, mix: NDArray[np.floating]
) -> Array:
    """Spread hard labels to all rows and return class probabilities (n, n_classes).

    Every class gets mass in proportion to ``mix`` (class mass normalization, Zhu et al., ICML 2003), so that
    a class with tight clusters or many labels does not swallow the rest. Labeled rows keep their label; rows
    that no label reaches get ``mix``.

    Args:
        graph: Normalized symmetric graph (n, n).
        labels: (n,), -1 where unlabeled.
        n_classes: Number of classes; each must be labeled at least once to be spread.
        alpha: How far labels travel.
        mix: (n_classes,) expected class proportions.
    """
    known = np.flatnonzero(labels >= 0)
    sources = np.zeros((len(labels), n_classes), dtype=np.float32)
    sources[known, labels[known]] = 1.0
    mass = spread(graph, sources, alpha)
    mass *= (mix / np.maximum(mass.sum(axis=0), _TINY)).astype(np.float32)
    return clamp(normalize_rows(mass, mix), labels)


def normalize_rows(mass: Array, fallback: NDArray[np.floating]) -> Array:
    """Scale rows to sum to 1; rows without mass become ``fallback``."""
    total = mass.sum(axis=1, keepdims=True, dtype=np.float64)
    reached = total > _TINY
    share = mass / np.where(reached, total, 1.0)
    return np.where(reached, share, fallback / fallback.sum()).astype(np.float32)


def clamp(probs: Array, labels: NDArray[np.integer]) -> Array:
    """Give labeled rows their label with certainty. Works in place and returns ``probs``."""
    known = np.flatnonzero(labels >= 0)
    probs[known] = 0.0
    probs[known, labels[known]] = 1.0
    return probs
