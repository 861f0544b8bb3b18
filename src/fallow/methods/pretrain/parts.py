"""The words that methods share: projectors, float32, comparing with others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(*widths: int, last_norm: bool = False, last_bias: bool = True) -> nn.Sequential:
    """Return linear layers with BatchNorm and ReLU between them: projectors and predictors.

    Args:
        widths: Channels in, of the hidden layers, and out.
        last_norm: Whether BatchNorm without scale and shift follows the last layer.
        last_bias: Whether the last layer has a bias.
    """
    layers: list[nn.Module] = []
    for first, second in pairwise(widths[:-1]):
        layers += [nn.Linear(first, second, bias=False), nn.BatchNorm1d(second), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=last_bias and not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


def width(asked: int | None, dim: int, share: float, least: int = 128) -> int:
    """Return what was asked for, or so many times the channels of the features, as in the paper, but no fewer than ``least``."""
    return asked if asked is not None else max(least, round(share * dim))


@contextmanager
def float32(like: Tensor) -> Iterator[None]:
    """Compute in float32 inside of mixed precision; what comes in is to be converted with ``.float()``."""
    with torch.autocast(like.device.type, enabled=False):
        yield


def off_diagonal(square: Tensor) -> Tensor:
    """Return the elements of (n, n) off the diagonal, (n, n - 1)."""
    n = len(square)
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1) if n > 1 else square[:, :0]


def contrast(
    anchors: Tensor, positives: Tensor, others: Tensor, strangers: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return -log of the share that each anchor's own positive has among it and the others (InfoNCE).

    Oord et al. 2018, arXiv 1807.03748, eq. 4, by log-sum-exp.

    Args:
        anchors: (n, d), float32, unit length.
        positives: (n, d), likewise.
        others: (m, d), likewise.
        strangers: Bool (n, m): which others are other images than the anchor. An image that is drawn twice is no stranger
            to itself.
        temperature: Divides the cosines.

    Returns:
        Loss of each anchor, (n,), and what it is where all cosines are the same, (n,).
    """
    own = (anchors * positives).sum(1, keepdim=True) / temperature
    apart = (anchors @ others.T / temperature).masked_fill(~strangers, -torch.inf)
    losses = torch.logsumexp(torch.cat([own, apart], 1), 1) - own[:, 0]
    return losses, torch.log1p(strangers.sum(1).float())
