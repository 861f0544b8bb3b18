"""Clusters of vectors of unit length: spherical k-means."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

_ROWS = 4096
"""Vectors that are compared with all centers at a time."""


@torch.no_grad()
def sphere_kmeans(
    units: Tensor, count: int, drawn: torch.Generator, rounds: int = 10
) -> tuple[Tensor, Tensor]:
    """Return centers of unit length and which of them is nearest to each vector (Dhillon and Modha 2001).

    It begins at vectors drawn at random; a center that no vector is nearest to stays where it is (Caron et al. 2020, arXiv
    2006.09882, app. C). Sums are taken in one order, so that the same vectors give the same centers.

    Args:
        units: (n, d), float32, unit length.
        count: Number of centers, n at most.
        drawn: What the first centers are drawn with, on the CPU.
        rounds: Times that vectors are sorted to centers and centers moved to their middle.

    Returns:
        Centers (count, d) and, for each vector, the number of its center, long (n,).
    """
    centers = units[torch.randperm(len(units), generator=drawn)[:count].to(units.device)]
    for _ in range(rounds):
        sums, counts = torch.zeros_like(centers), centers.new_zeros(len(centers))
        for part in torch.split(units, _ROWS):
            member = one_hot(_nearest(part, centers), len(centers)).to(part.dtype)
            sums += member.T @ part
            counts += member.sum(0)
        centers = torch.where(counts[:, None] > 0, normalize(sums, dim=1), centers)
    return centers, torch.cat([_nearest(part, centers) for part in torch.split(units, _ROWS)])


def _nearest(units: Tensor, centers: Tensor) -> Tensor:
    return (units @ centers.T).argmax(1)


def centered_units(vectors: Tensor) -> Tensor:
    """Return vectors (n, d) less their mean, at unit length: what all features share tells no cluster from another."""
    return normalize(vectors - vectors.mean(0), dim=1)
