"""Masks: which parts of an image a vision transformer does not see, the same for an image and a step in any number of processes."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ASPECT = 0.3
"""Blocks are between this and its inverse as high as they are wide (Bao et al. 2021, arXiv 2106.08254, alg. 1)."""


def hide_blocks(count: int, grid: int, drawn: np.random.Generator) -> NDArray[np.bool_]:
    """Return which of ``grid`` x ``grid`` parts are hidden, (grid^2,): ``count`` of them, in rectangles (Bao et al. 2021, alg. 1).

    Args:
        count: Hidden parts, no more than there are.
        grid: Parts along each side.
        drawn: What they are drawn with.
    """
    hidden = np.zeros((grid, grid), np.bool_)
    least = max((grid // 3) ** 2, 1)
    while left := count - int(hidden.sum()):
        area = drawn.uniform(min(least, left), left)
        aspect = math.exp(drawn.uniform(math.log(_ASPECT), -math.log(_ASPECT)))
        high, wide = (min(grid, max(1, round(math.sqrt(area * a)))) for a in (aspect, 1 / aspect))
        top, side = drawn.integers(grid - high + 1), drawn.integers(grid - wide + 1)
        block = hidden[top : top + high, side : side + wide]
        if 0 < int((~block).sum()) <= left:
            block[:] = True
    return hidden.reshape(-1)


def blocks_for(index: Tensor, view: int, step: int, grid: int, share: tuple[float, float]) -> Tensor:
    """Return which parts of images (n,) are hidden in a view, bool (n, grid^2).

    Half of the images are shown whole; of the others a share drawn between two, one part at least, is hidden in blocks (Zhou et al.
    2021, arXiv 2111.07832, sec. 3.1).
    """
    found = np.zeros((len(index), grid**2), np.bool_)
    for row, image in enumerate(index.tolist()):
        drawn = np.random.default_rng([step, view, image])
        if drawn.random() < 0.5:
            count = max(1, min(round(drawn.uniform(*share) * grid**2), grid**2))
            found[row] = hide_blocks(count, grid, drawn)
    return torch.from_numpy(found).to(index.device)


def kept_for(index: Tensor, step: int, parts: int, kept: int) -> Tensor:
    """Return the parts of images (n,) that are shown, drawn at random, long (n, kept)."""
    orders = [np.random.default_rng([step, image]).permutation(parts)[:kept] for image in index.tolist()]
    return torch.from_numpy(np.stack(orders)).to(index.device)
