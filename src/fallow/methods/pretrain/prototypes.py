"""Prototypes: directions that images are sorted to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from fallow.methods.pretrain.base import PretrainContext

_IMAGES_EACH = 20


def prototype_count(asked: int | None, n_images: int, most: int, least: int = 128) -> int:
    """Return what was asked for, or one for 20 images: the papers' numbers are for a million of them."""
    return asked if asked is not None else min(most, max(least, n_images // _IMAGES_EACH))


class Prototypes(nn.Module):
    """Cosines with directions that are learned.

    Args:
        dim: Length of the vectors.
        count: Number of directions.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(normalize(torch.randn(count, dim), dim=1))

    def forward(self, unit: Tensor, moving: bool = True) -> Tensor:
        """Return cosines (n, count) of vectors of unit length (n, dim).

        Args:
            unit: The vectors.
            moving: Whether the directions learn; else their gradient is 0.
        """
        # Not detached: every weight has a gradient in every step, as data-parallel training wants it.
        weight = self.weight if moving else self.weight.detach() + 0 * self.weight
        return linear(unit, normalize(weight, dim=1))


@torch.no_grad()
def sinkhorn(scores: Tensor, ctx: PretrainContext, *, epsilon: float = 0.05, rounds: int = 3) -> Tensor:
    """Return how images are shared out over prototypes that all get as many of them (Cuturi 2013; SwAV, sec. 3.1).

    Args:
        scores: Cosines (n, count), float32, of this process's images.
        ctx: The loop: the images of all processes are shared out together.
        epsilon: Smoothness: the smaller, the surer.
        rounds: Times that rows and columns are scaled.

    Returns:
        (n, count): each row sums to 1.
    """
    shares = torch.exp(scores / epsilon)
    shares = shares / ctx.reduce(shares.sum())
    images = ctx.reduce(shares.new_full((), float(len(shares))))
    for _ in range(rounds):
        shares = shares / (ctx.reduce(shares.sum(0)) * shares.shape[1]).clamp_min(1e-30)
        shares = shares / (shares.sum(1, keepdim=True) * images)
    return shares * images
