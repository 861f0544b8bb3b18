"""Which images stand best for all others? Greedy facility location on frozen vectors.

A set of images is worth ``sum_i w_i max_{s in set} sim(i, s)``: how near every image i has one of them, weighted by how much
there is to learn about it (Mirchandani and Francis, Discrete Location Theory, 1990; for choosing what to label: Wei, Iyer
and Bilmes, ICML 2015). The labeled images are in the set from the start. A typical image is near to many, an outlier to
none, and a second image of a kind adds little: typicality, diversity and distance to what is labeled in one sum. With equal
weights it is the cold start (the same aim as TypiClust, arXiv 2202.02794, and ProbCover, arXiv 2205.11328, without their
number of clusters or radius); with uncertainties as weights it asks for what is typical *and* uncertain. The sum is
submodular, so that the greedy choice is within 1 - 1/e of the best (Nemhauser et al., 1978), and lazy evaluation is exact.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.types import Progress, silent

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

REFERENCES = 2000
"""Images that are asked how near they have one: a sample says it as well as all."""
CANDIDATES = 10_000
"""Images that may be chosen, at most: of more a sample is looked at, or similarities would fill the memory."""
_TWIN = 0.97
"""Cosine, in every embedding, from which two images are nearly the same."""


@dataclass(frozen=True)
class Picked:
    """What was chosen.

    Attributes:
        rows: Rows of the chosen images, in order, (k,).
        gains: What each added to the sum when it was chosen, (k,).
        twins: Candidates that were passed over as nearly the same as a labeled or chosen image.
    """

    rows: Rows
    gains: NDArray[np.float64]
    twins: int


def similarity(features: Sequence[Array], left: Rows, right: Rows) -> Array:
    """Return the mean cosine over embeddings, zero where it is below, (left, right)."""
    total = np.zeros((len(left), len(right)), np.float32)
    for x in features:
        total += np.maximum(x[left] @ x[right].T, 0.0)
    return total / np.float32(len(features))


def pick(
    features: Sequence[Array],
    labeled: Rows,
    candidates: Rows,
    weights: NDArray[np.floating],
    count: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Picked:
    """Choose images that stand for the others, the best first. Deterministic.

    Args:
        features: Unit vectors of all images in each embedding, (n, d).
        labeled: Rows that are labeled: what is near to them is taken care of.
        candidates: Rows that may be chosen.
        weights: How much there is to learn about each image, (n,), not negative.
        count: How many to choose; fewer where there are fewer that are no twins.
        seed: Of the samples of large pools.
        progress: Told after each choice.
    """
    rng = np.random.default_rng(seed)
    candidates = _sample(candidates, CANDIDATES, rng)
    asked = _sample(np.flatnonzero(weights > 0), REFERENCES, rng)
    weight = weights[asked].astype(np.float32)
    near = similarity(features, candidates, asked)
    has = similarity(features, labeled, asked).max(0) if len(labeled) else np.zeros(len(asked), np.float32)
    # Gains only fall while the set grows: a candidate is looked at again only when its old gain is the largest.
    heap = [(-float(gain), i) for i, gain in enumerate(np.maximum(near - has, 0.0) @ weight)]
    heapq.heapify(heap)
    rows: list[int] = []
    gains: list[float] = []
    taken, twins, seen = list(labeled), 0, np.zeros(len(candidates), np.int64)
    while heap and len(rows) < count:
        gain, i = heapq.heappop(heap)
        if seen[i] < len(rows):
            seen[i] = len(rows)
            heapq.heappush(heap, (-float(np.maximum(near[i] - has, 0.0) @ weight), i))
            continue
        row = int(candidates[i])
        if _is_twin(features, row, np.asarray(taken, np.int64)):
            twins += 1
            continue
        rows.append(row)
        gains.append(-gain)
        taken.append(row)
        has = np.maximum(has, near[i])
        progress("choosing images", len(rows), count)
    return Picked(np.array(rows, np.int64), np.array(gains), twins)


def _sample(rows: Rows, most: int, rng: np.random.Generator) -> Rows:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _is_twin(features: Sequence[Array], row: int, others: Rows) -> bool:
    """Say whether an image is nearly the same as one of the others, in the eyes of every embedding."""
    if not len(others):
        return False
    alike = np.ones(len(others), bool)
    for x in features:
        alike &= x[others] @ x[row] >= _TWIN
    return bool(alike.any())


def nearest(features: Sequence[Array], rows: Rows, chosen: Rows) -> Rows:
    """Return the position in ``chosen`` of the image that each row is nearest to, (rows,)."""
    parts = np.array_split(rows, max(1, len(rows) // 4096))
    return np.concatenate([similarity(features, part, chosen).argmax(1) for part in parts])
