"""Which labeled images are held out together: stratified by class, grouped, the same on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MOST_FOLDS = 5


def default_folds(labels: Sequence[int]) -> int:
    """Return how many folds to use: the size of the smallest class, at most 5; 0 if a class has one label."""
    smallest = min(Counter(labels).values(), default=0)
    return 0 if smallest < 2 else min(MOST_FOLDS, smallest)


def assign_folds(
    labels: Sequence[int], groups: Sequence[str] | None, folds: int, repeats: int, seed: int
) -> npt.NDArray[np.int64]:
    """Deal labeled images to folds.

    Every fold's training part (all other folds, and what is never held out) has every class: a class that has
    only one group is never held out. Images of one group are always in the same fold.

    Args:
        labels: Class index of each image.
        groups: Group of each image; None = each on its own.
        folds: Number of folds; below 2 nothing is held out.
        repeats: How many independent deals.
        seed: Seed of the deals. Repeat r is the same whatever ``repeats`` is.

    Returns:
        int array (repeats, n): the fold of each image, -1 = never held out.

    Raises:
        ValueError: ``groups`` is not as long as ``labels``.
    """
    classes = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)[1].reshape(-1)
    n = len(classes)
    if groups is not None and len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} labels")
    result = np.full((repeats, n), -1, dtype=np.int64)
    if folds < 2 or n == 0:
        return result
    owner = (
        np.arange(n) if groups is None else np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    )
    # counts[g, c]: images of class c in group g; every decision below looks at nothing else.
    counts = np.zeros((int(owner.max()) + 1, int(classes.max()) + 1), dtype=np.int64)
    np.add.at(counts, (owner, classes), 1)
    for repeat in range(repeats):
        result[repeat] = _deal(counts, folds, np.random.default_rng([seed, repeat]))[owner]
    return result


def stratified(
    classes: npt.NDArray[np.generic], count: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return ``count`` positions in ascending order, each class with its share: ranked by place in the shuffled class."""
    order = rng.permutation(len(classes))
    rank = np.empty(len(classes))
    for value in np.unique(classes):
        members = order[classes[order] == value]
        rank[members] = np.arange(len(members)) / len(members)
    return np.sort(np.argsort(rank, kind="stable")[:count]).astype(np.int64)


def _deal(counts: npt.NDArray[np.int64], folds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the fold of each group: class by class, the largest groups first, each to the emptiest fold."""
    fold_of = np.full(len(counts), -1, dtype=np.int64)
    spread = (counts > 0).sum(axis=0)  # groups per class
    dealt = (counts[:, spread == 1] == 0).all(axis=1)  # a group that alone has some class is never held out
    main = counts.argmax(axis=1)
    held = np.zeros((folds, counts.shape[1]), dtype=np.int64)
    total = np.zeros(folds, dtype=np.int64)
    for c in rng.permutation(counts.shape[1]):
        mine = rng.permutation(np.flatnonzero(dealt & (main == c)))
        for g in mine[np.argsort(-counts[mine].sum(axis=1), kind="stable")]:
            fold = np.lexsort((rng.random(folds), total, held[:, c]))[0]
            fold_of[g] = fold
            held[fold] += counts[g]
            total[fold] += counts[g].sum()
    return _every_class_stays(counts, fold_of, folds)


def _every_class_stays(
    counts: npt.NDArray[np.int64], fold_of: npt.NDArray[np.int64], folds: int
) -> npt.NDArray[np.int64]:
    """Never hold out one group of each class that would be held out whole (groups of mixed classes)."""
    for c in range(counts.shape[1]):
        having = np.flatnonzero(counts[:, c] > 0)
        if len(having) and fold_of[having[0]] >= 0 and (fold_of[having] == fold_of[having[0]]).all():
            fold_of[having[np.argmax(counts[having, c])]] = -1
    return fold_of
