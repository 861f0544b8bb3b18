"""How much is judged: as many images as the budget holds, and no more than say something."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fallow.types import JsonObject

_SAMPLE, _LEAST_SAMPLE = 1000, 100
"""Images whose neighbors are looked at: more say little more, fewer say nothing."""
_A_CLASS = 5
"""Labels of a class that judge at least, where there are so many: one for each fold."""


@dataclass(frozen=True)
class Extent:
    """How much is judged, before and after alike.

    Attributes:
        sample: Images that are learned from whose neighbors are looked at.
        judged: Labeled images that judge; None: all that were held out for it.
        fits: Probes that are fitted; None: as many as there are folds.
    """

    sample: int = _SAMPLE
    judged: int | None = None
    fits: int | None = None

    @classmethod
    def of(cls, kept: Mapping[str, int | None]) -> Self:
        """Return what `to_json` has kept; what is not there is as it is where nothing was kept."""
        sample = kept.get("sample")
        return cls(_SAMPLE if sample is None else sample, kept.get("judged"), kept.get("fits"))

    def to_json(self) -> JsonObject:
        """Return it as JSON."""
        return dict(vars(self))


def extent_for(y: NDArray[np.int64], pool: int, speed: float, seconds: float) -> Extent:
    """Return how much one judging can look at: the sample gives way first, then labeled images, down to five a class.

    Args:
        y: Classes of the images that could judge, (n,).
        pool: Images that are learned from.
        speed: Images a second that the network takes.
        seconds: What the judging may take.
    """
    holds = int(speed * seconds)
    most = min(_SAMPLE, pool)
    sample = max(min(most, _LEAST_SAMPLE), min(most, (holds - len(y)) // 2))  # as they are, and noised
    least = int(np.minimum(np.bincount(y), _A_CLASS).sum()) if len(y) else 0
    judged = max(least, min(len(y), holds - 2 * sample))
    return Extent(sample, None if judged >= len(y) else judged)


def drawn_evenly(y: NDArray[np.int64], count: int | None, seed: int) -> NDArray[np.int64]:
    """Return so many positions of ``y``, sorted, each class with its share of them and `_A_CLASS` at least where it has so many."""
    if count is None or count >= len(y):
        return np.arange(len(y))
    rng, place = np.random.default_rng([seed, 13]), np.empty(len(y))
    for c in np.unique(y):
        mine = rng.permutation(np.flatnonzero(y == c))
        first = np.arange(len(mine)) < _A_CLASS
        place[mine] = np.where(first, -math.inf, (np.arange(len(mine)) + 0.5) / len(mine))
    return np.sort(np.argsort(place, kind="stable")[:count])
