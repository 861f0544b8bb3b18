"""Who is learned from and who is judged: a test split where there is one, else folds dealt again and again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.data import assign_folds, default_folds

Positions = NDArray[np.int64]
_FITS = 20
_FEW, _SOME = 1000, 5000
"""Images up to which folds are dealt until about twenty fits are made, and up to which they are dealt three times."""
DRAWS = 5
"""Draws of a protocol that has chance in it beside the folds: few labels, the start of k-means or of a network."""


@dataclass(frozen=True)
class Deal:
    """Labeled images and what of them is learned from and judged; every backbone gets the same.

    Attributes:
        y: Classes, (n,).
        groups: What each image belongs to; images of one group are never on both sides.
        learned: Positions that may be learned from.
        judged: Positions that are judged: those of a test split, or the same as ``learned``.
        rounds: For each repeat, what is held out in turn.
        classes: Number of classes.
        seed: Of everything random.
    """

    y: Positions
    groups: tuple[str, ...]
    learned: Positions
    judged: Positions
    rounds: tuple[tuple[Positions, ...], ...]
    classes: int
    seed: int

    @classmethod
    def of(
        cls, y: Positions, groups: tuple[str, ...], tested: NDArray[np.bool_], classes: int, seed: int
    ) -> Deal:
        """Deal labeled images.

        Args:
            y: Classes, (n,).
            groups: What each image belongs to.
            tested: Images of a test split, (n,); all False deals folds. ``rounds`` is empty where nothing can be held out.
            classes: Number of classes.
            seed: Of the folds.
        """
        judged, learned = np.flatnonzero(tested), np.flatnonzero(~tested)
        if len(judged):
            return cls(y, groups, learned, judged, ((judged,),), classes, seed)
        rounds = tuple(map(tuple, held_out(y, groups, seed, repeats_for(y))))
        return cls(y, groups, learned, learned, rounds, classes, seed)

    @property
    def has_test(self) -> bool:
        """Whether a split of its own is judged."""
        return bool(len(self.judged)) and (not len(self.learned) or self.judged[0] != self.learned[0])

    @property
    def folds(self) -> int:
        """Parts of each repeat."""
        return len(self.rounds[0]) if self.rounds else 0

    def rest(self, held: Positions) -> Positions:
        """Return what may be learned from while ``held`` are judged."""
        return np.setdiff1d(self.learned, held)

    def splits(self, rounds: int | None = None) -> Iterator[tuple[int, Positions, Positions]]:
        """Yield ``(repeat, learned from, held out)``, of the first ``rounds`` repeats."""
        for number, parts in enumerate(self.rounds[:rounds]):
            for held in parts:
                yield number, self.rest(held), held

    def groups_of(self, positions: Positions) -> list[str]:
        """Return the groups of some images."""
        return [self.groups[i] for i in positions]


def repeats_for(y: Positions) -> int:
    """Return how often folds are dealt: about twenty fits of few images, three deals of some, one of many."""
    if len(y) > _FEW:
        return 3 if len(y) <= _SOME else 1
    return max(3, round(_FITS / max(default_folds(y.tolist()), 1)))


def held_out(y: Positions, groups: tuple[str, ...], seed: int, repeats: int) -> list[list[Positions]]:
    """Return for each repeat which images each fold holds out; an empty list where nothing can be.

    As many folds as the smallest class has labels, five at most.
    """
    folds = default_folds(y.tolist())
    if not folds:
        return []
    dealt = assign_folds(y.tolist(), groups, folds, repeats, seed)
    made = [[np.flatnonzero(row == f) for f in range(folds)] for row in dealt]
    full = [[part for part in parts if len(part)] for parts in made]
    return [parts for parts in full if parts]
