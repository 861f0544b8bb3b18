"""Puzzles: an image is cut into patches with gaps between them, and the patches are put into another order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fallow.methods.pretrain.base import PretrainContext
from fallow.models import TokenInfo

SIDE = 3
"""Patches along each side of an image."""
CELLS = SIDE**2
_LEAST = 8
"""Of smaller patches a network sees next to nothing: they are enlarged to so many pixels a side, or to the image's."""


@dataclass(frozen=True)
class Puzzle:
    """How images of one size are cut.

    Attributes:
        cell: Side in pixels of the ninth of an image that a patch is cut from.
        patch: Side of a patch.
        shown: Side at which the network sees it.
    """

    cell: int
    patch: int
    shown: int

    @classmethod
    def of(cls, size: int, share: float, tokens: TokenInfo | None) -> Self:
        """Return how images are cut.

        Args:
            size: Their side in pixels, 3 at least.
            share: Side of a patch as a share of its cell's: what is left is gap and room to move, so that edges that run on from
                one patch into the next do not give the order away.
            tokens: How the network cuts images itself: it sees whole tokens.
        """
        cell = size // SIDE
        patch = max(1, min(cell, round(cell * share)))
        unit = 1 if tokens is None else tokens.patch
        return cls(cell, patch, -(-max(patch, min(size, _LEAST)) // unit) * unit)

    def cut(self, images: Tensor, places: Tensor) -> Tensor:
        """Return the patches of images (n, c, s, s), row by row: (n, 9, c, shown, shown).

        Args:
            images: Images.
            places: Where each patch lies in its cell, down and right, (n, 9, 2) in 0..1.
        """
        n, margin = len(images), (images.shape[-1] - SIDE * self.cell) // 2
        grid = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).to(images.device) * self.cell
        corner = (
            grid + margin + (places * (self.cell - self.patch + 1)).long().clamp_max(self.cell - self.patch)
        )
        along = torch.arange(self.patch, device=images.device)
        rows, columns = (corner[:, :, axis, None] + along for axis in (0, 1))
        which = torch.arange(n, device=images.device)[:, None, None, None]
        found = images.permute(0, 2, 3, 1)[which, rows[..., None], columns[:, :, None]].permute(0, 1, 4, 2, 3)
        if self.shown == self.patch:
            return found
        whole = interpolate(found.flatten(0, 1), (self.shown, self.shown), mode="bilinear")
        return whole.reshape(n, CELLS, *whole.shape[1:])


def draw_places(ctx: PretrainContext, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where patches lie, (n, 9, 2) in 0..1, and an order of them, long (n, 9), for each of this process's images.

    They are drawn for the images of all processes and dealt out as the images are: N processes see what one would.
    """
    drawn = torch.Generator().manual_seed(ctx.step)
    found = torch.rand(count * ctx.world_size, CELLS, 3, generator=drawn)[ctx.rank :: ctx.world_size].to(
        device
    )
    return found[..., :2], found[..., 2].argsort(1)


def even(patches: Tensor) -> Tensor:
    """Return patches (..., h, w) with the same mean and spread of each channel: color and light would give neighbors away."""
    spread, mean = torch.var_mean(patches, (-2, -1), correction=0, keepdim=True)
    return 0.5 + 0.25 * (patches - mean) / (spread + 1e-4).sqrt()


@lru_cache(maxsize=4)
def far_orders(count: int) -> Tensor:
    """Return so many orders of nine patches, each as far as can be from those before it, (count, 9) long.

    Noroozi and Favaro 2016, arXiv 1603.09246, alg. 1: the next order is the one with the largest sum of Hamming distances to those
    that are there. The same whenever asked.

    Args:
        count: Orders, 9! at most.
    """
    everything = np.array(list(permutations(range(CELLS))), np.int8).T.copy()
    left, distance = np.ones(everything.shape[1], bool), np.zeros(everything.shape[1], np.int64)
    chosen = [int(np.random.default_rng(0).integers(everything.shape[1]))]
    while len(chosen) < count:
        left[chosen[-1]] = False
        for cells in everything:
            distance += cells != cells[chosen[-1]]
        chosen.append(int(np.where(left, distance, -1).argmax()))
    return torch.from_numpy(everything[:, chosen].T.astype(np.int64))
