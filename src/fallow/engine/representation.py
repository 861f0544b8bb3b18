"""What a set of vectors is like: how many directions it has, how far it is spread, how near views of one image are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

_EPS = 1e-7
_ROWS = 256
"""Vectors that are looked at: more of them say little more and take longer."""


@torch.no_grad()
def effective_rank(vectors: Tensor, *, centered: bool = False, rows: int = _ROWS) -> float:
    """Return RankMe: the exponential of the entropy of the singular values, 1 to min(n, d) (Garrido et al. 2022, arXiv 2210.02885, eq. 1).

    Args:
        vectors: (n, d).
        centered: Take the mean away first, so that what all vectors share counts for nothing.
        rows: How many of the vectors are looked at, the first ones: 256, which take no time in each look at a training.
    """
    found = vectors[:rows].float()
    if not bool(torch.isfinite(found).all()):
        return 1.0  # the loss is no number either, and says more
    if centered:
        found = found - found.mean(0)
    sizes = torch.linalg.svdvals(found)
    total = sizes.sum()
    if not bool(torch.isfinite(total)) or float(total) <= _EPS:
        return 1.0
    share = sizes / total + _EPS
    return float(torch.exp(-(share * share.log()).sum()))


@torch.no_grad()
def direction_spread(vectors: Tensor) -> float:
    """Return the standard deviation of unit vectors over images, times the root of their length.

    1 where directions are all alike likely, 0 where all point the same way (Chen and He 2020, arXiv 2011.10566, sec. 4.1).
    """
    unit = normalize(vectors[:_ROWS].float(), dim=1)
    return float(unit.var(0, correction=0).mean().sqrt() * unit.shape[1] ** 0.5)


@torch.no_grad()
def alignment(one: Tensor, two: Tensor) -> float:
    """Return the mean squared distance of unit vectors of two views of the same images, 0 to 4 (arXiv 2005.10242, eq. 4)."""
    first, second = (normalize(x[:_ROWS].float(), dim=1) for x in (one, two))
    return float((first - second).square().sum(1).mean())


@torch.no_grad()
def uniformity(vectors: Tensor) -> float:
    """Return log of the mean of exp(-2 distance^2) over pairs of unit vectors: 0 collapsed, about -4 uniform (arXiv 2005.10242, eq. 5)."""
    unit = normalize(vectors[:_ROWS].float(), dim=1)
    if len(unit) < 2:
        return 0.0
    return float(torch.pdist(unit).square().mul(-2).exp().mean().log())
