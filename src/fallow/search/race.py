"""A race against the default: few candidates, few noisy figures, and no prize without evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Objective = Callable[[int, int], NDArray[np.floating]]
"""(candidate, block) -> the loss of each unit of the block, (units,), lower is better. The units of a block are the same for
all candidates."""


@dataclass(frozen=True)
class Round:
    """How one candidate stands against the default.

    Attributes:
        candidate: Which.
        blocks: Blocks behind the figures.
        units: Units behind them.
        gain: Mean loss of the default less the candidate's, over the units.
        error: Standard error of ``gain``.
    """

    candidate: int
    blocks: int
    units: int
    gain: float
    error: float


@dataclass(frozen=True)
class Race:
    """How a race ended.

    Attributes:
        chosen: The winner; 0, the default, unless another was surely better.
        rounds: The last standing of each candidate but the default, in their order.
        needed: Standard errors that a gain had to exceed.
        evaluations: How often the objective was asked.
    """

    chosen: int
    rounds: tuple[Round, ...]
    needed: float
    evaluations: int


def star(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return candidates around a default: none changed, then one value of one axis changed at a time, axis by axis in turn.

    All combinations of a few values are more than a few labels can tell apart, and most of what one value does it does
    whatever the others are.

    Args:
        axes: Name -> values to try instead of the default, the most promising first.
    """
    depth = max((len(values) for values in axes.values()), default=0)
    return [{}] + [
        {name: values[i]} for i in range(depth) for name, values in axes.items() if i < len(values)
    ]


def evaluations(candidates: int, blocks: int) -> int:
    """Return how often a race asks its objective at most, the default among the candidates."""
    return sum(1 + left for left in _fields(candidates - 1, blocks))


def race(objective: Objective, candidates: int, blocks: int, *, doubt: float = 0.05) -> Race:
    """Find a candidate that is surely better than candidate 0, the default, or stay with that.

    Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943) over blocks: all candidates are asked about the first
    block, the better half of them about the next, and so on, always with the default on the same block. Candidates are compared
    by the paired difference of their losses, unit by unit. The race ends early when none is ahead of the default.

    A winner is named only if its mean gain is positive beyond what chance would make of the best of so many candidates (one-sided,
    Bonferroni). The units of a block share one fit, so that they are not independent: the standard error adds to the
    variance over units what the means of the blocks vary beyond that (DerSimonian and Laird 1986).

    Args:
        objective: Asked for (candidate, block); for each block with the default first.
        candidates: How many there are, the default included.
        blocks: Blocks that there are; each is asked about once.
        doubt: Probability with which another than the default is named though none is better.

    Raises:
        ValueError: There is no candidate or no block.
    """
    if candidates < 1 or blocks < 1:
        raise ValueError(f"a race needs candidates and blocks, not {candidates} and {blocks}")
    needed = NormalDist().inv_cdf(1 - doubt / max(candidates - 1, 1))
    left, asked = list(range(1, candidates)), 0
    gains: dict[int, list[NDArray[np.float64]]] = {c: [] for c in left}
    standing: dict[int, Round] = {}
    for block, field in enumerate(_fields(candidates - 1, blocks)):
        left = left[:field]
        default = np.asarray(objective(0, block), np.float64)
        for candidate in left:
            gains[candidate].append(default - np.asarray(objective(candidate, block), np.float64))
            standing[candidate] = _standing(candidate, gains[candidate])
        asked += 1 + len(left)
        left = sorted((c for c in left if standing[c].gain > 0), key=lambda c: (-standing[c].gain, c))
        if not left:
            break
    sure = [c for c in left if standing[c].gain > needed * standing[c].error]
    rounds = tuple(standing[c] for c in sorted(standing))
    return Race(sure[0] if sure else 0, rounds, needed, asked)


def _fields(rivals: int, blocks: int) -> list[int]:
    """Return how many rivals of the default are asked about each block."""
    if rivals < 1:
        return []
    return [max(1, -(-rivals // 2**block)) for block in range(blocks)]


def _standing(candidate: int, gains: list[NDArray[np.float64]]) -> Round:
    units = np.concatenate(gains)
    within = sum(((block - block.mean()) ** 2).sum() for block in gains) / max(len(units) - len(gains), 1)
    variance = within / len(units)
    if len(gains) > 1:
        sizes = np.array([len(block) for block in gains], np.float64)
        means = np.array([block.mean() for block in gains])
        excess = float((sizes * (means - units.mean()) ** 2).sum()) - within * (len(gains) - 1)
        between = max(0.0, excess / (sizes.sum() - (sizes**2).sum() / sizes.sum()))
        variance += between * float((sizes**2).sum()) / sizes.sum() ** 2
    return Round(candidate, len(gains), len(units), float(units.mean()), float(np.sqrt(variance)))
