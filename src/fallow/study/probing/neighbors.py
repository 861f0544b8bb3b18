"""What the nearest images say: the weighted vote of k of them, and how many of a class come first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fallow.models import unit_length
from fallow.study.probing.deal import Deal, Positions
from fallow.study.probing.scores import Scores, correctness
from fallow.study.probing.vectors import Array
from fallow.types import Progress

TEMPERATURE = 0.07
"""Of the neighbors' vote, as Wu et al. 2018 (arXiv 1805.01978) and VISSL have it."""
NEIGHBORS = (20, 200)
"""How many vote: the two numbers that tables of the field give."""
RECALLED = (1, 5, 10)
_BLOCK = 512


def likenesses(queries: Array, bank: Array) -> Iterator[tuple[slice, Array]]:
    """Yield the cosines of some queries with all of the bank at a time; both are of unit length."""
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield rows, np.asarray(queries[rows] @ bank.T, np.float32)


def vote(
    bank: Array, y: NDArray[np.int64], queries: Array, ks: Sequence[int], classes: int
) -> list[NDArray[np.int64]]:
    """Return the class that the nearest of the bank name for each query, (q,), for each number of neighbors.

    A neighbor's vote weighs exp(cosine / 0.07).

    Args:
        bank: Features of unit length, (n, d).
        y: Classes of the bank, (n,).
        queries: Features of unit length, (q, d).
        ks: Numbers of neighbors, n at most.
        classes: Number of classes.
    """
    found = [np.zeros(len(queries), np.int64) for _ in ks]
    most = max(ks)
    for rows, likeness in likenesses(queries, bank):
        near = np.argpartition(-likeness, most - 1, axis=1)[:, :most]
        close = np.take_along_axis(likeness, near, 1)
        order = np.argsort(-close, axis=1, kind="stable")
        near, close = np.take_along_axis(near, order, 1), np.take_along_axis(close, order, 1)
        weight = np.exp((close - close[:, :1]) / TEMPERATURE)  # the nearest weighs 1: nothing overflows
        for answers, k in zip(found, ks, strict=True):
            votes = np.zeros((len(near), classes))
            np.add.at(votes, (np.arange(len(near))[:, None], y[near[:, :k]]), weight[:, :k])
            answers[rows] = votes.argmax(1)
    return found


def knn(features: Array, deal: Deal, progress: Progress) -> list[Scores]:
    """Judge by the vote of the nearest images that are learned from."""
    z = unit_length(features)
    fewest = min(len(rest) for _, rest, _ in deal.splits())
    ks = sorted({min(k, fewest) for k in NEIGHBORS})
    parts: list[list[tuple[int, Positions, NDArray[np.floating]]]] = [[] for _ in ks]
    splits = list(deal.splits())
    for done, (number, rest, held) in enumerate(splits):
        progress("nearest neighbors", done, len(splits))
        for into, named in zip(parts, vote(z[rest], deal.y[rest], z[held], ks, deal.classes), strict=True):
            into.append((number, held, (named == deal.y[held]).astype(np.float64)))
    return [
        correctness(
            f"knn@{asked}",
            f"nearest neighbors, k = {k}",
            made,
            len(z),
            fewest,
            "as many as there are" if k < asked else "",
        )
        for asked, k, made in zip(NEIGHBORS, ks, parts, strict=False)
    ]


def retrieval(features: Array, deal: Deal, progress: Progress) -> list[Scores]:
    """Judge by what is found: each judged image asks for images of its class among those that are learned from.

    Without a test split each asks among all others but those of its group.
    """
    z, rows = unit_length(features), deal.judged
    index = deal.learned
    owner = np.unique(np.asarray(deal.groups, dtype=str), return_inverse=True)[1].reshape(-1)
    first = np.full((len(RECALLED), len(z)), np.nan)
    precision = np.full(len(z), np.nan)
    for part, likeness in likenesses(z[rows], z[index]):
        progress("retrieval", part.start, len(rows))
        asked = rows[part]
        if not deal.has_test:
            likeness = np.where(owner[asked][:, None] == owner[index][None], -np.inf, likeness)
        order = np.argsort(-likeness, axis=1, kind="stable")
        there = np.isfinite(np.take_along_axis(likeness, order, 1))
        same = (deal.y[index][order] == deal.y[asked][:, None]) & there
        some = same.any(1)
        for line, k in zip(first, RECALLED, strict=True):
            line[asked[some]] = same[some, :k].any(1)
        precision[asked[some]] = average_precision(same[some])
    every = np.arange(len(z))
    made = [
        correctness(f"recall@{k}", f"recall at {k}", [(0, every, line)], len(z), len(index))
        for k, line in zip(RECALLED, first, strict=True)
    ]
    title = "mean average precision"
    return [*made, correctness("mAP", title, [(0, every, precision)], len(z), len(index), kind="mean")]


def average_precision(same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the average precision of each ranking: the mean of the precision at each right image, (q,).

    Args:
        same: Whether the image at each rank is a right one, (q, n); each row has one at least.
    """
    precision = np.cumsum(same, 1) / np.arange(1, same.shape[1] + 1)
    return np.asarray((precision * same).sum(1) / same.sum(1), np.float64)
