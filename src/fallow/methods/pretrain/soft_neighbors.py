"""Metric learning over whole neighborhoods: soft nearest neighbors, and lifted structures."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import relu

from fallow.methods.base import MethodInfo
from fallow.methods.pretrain.classes import Metric

_SMALLEST = 1e-12


class SoftNN(Metric):
    """Minimize -log of the chance that a near neighbor, drawn by its distance, is of the own class.

    Frosst et al. 2019, arXiv 1902.01889, eq. 1: softmax of the negative squared distances to all others.

    Args:
        temperature: Divides the squared distances: the smaller, the fewer neighbors count. The paper learns it; 0.2 is a temperature of
            0.1 of the cosines, that of supcon.
        out: Width of the embeddings.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="soft_nn",
        title="near neighbors, drawn by their distance, are of the own class",
        family="pretrain",
        paper="Frosst et al. 2019, arXiv 1902.01889",
        needs=("labels", "unlabeled"),
        suits="classes of several kinds: it is enough to be near to some of the own class, not to all of it",
        cost=2.0,
    )

    def __init__(self, *, temperature: float = 0.2, out: int = 128) -> None:
        super().__init__(out=out)
        self.temperature = temperature

    def measure(self, units: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and that of draws at random."""
        same, itself = _pairs(classes)
        logits = (-_squared(units) / self.temperature).masked_fill(itself, -torch.inf)
        own = torch.logsumexp(logits.masked_fill(~same, -torch.inf), 1)
        chance = (len(units) - 1) / same.sum(1).float()
        return (torch.logsumexp(logits, 1) - own).mean(), chance.log().mean()


class Lifted(Metric):
    """Minimize, for each two images of a class, their distance and how near the others come to either of them.

    Oh Song et al. 2015, arXiv 1511.06452, eq. 4: log-sum-exp of margin less distance over all images of other classes, seen from both.

    Args:
        margin: Of distances.
        out: Width of the embeddings.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="lifted",
        title="each two images of a class against all others of the batch, from both of their ends",
        family="pretrain",
        paper="Oh Song et al. 2015, arXiv 1511.06452",
        needs=("labels", "unlabeled"),
        suits="small batches, of which it uses every pair; with wrong labels take another, as its terms are squared",
        cost=2.0,
    )

    def __init__(self, *, margin: float = 1.0, out: int = 128) -> None:
        super().__init__(out=out)
        self.margin = margin

    def measure(self, units: Tensor, classes: Tensor) -> tuple[Tensor, None]:
        """Return the loss: half of the mean square over ordered pairs."""
        same, itself = _pairs(classes)
        distance = _squared(units).clamp_min(_SMALLEST).sqrt()
        near = torch.logsumexp((self.margin - distance).masked_fill(same | itself, -torch.inf), 1)
        both = torch.logaddexp(near[:, None], near[None])
        return relu(both + distance)[same].square().mean() / 2, None


def _pairs(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pairs are of one class, but not the same view, and which are the same view; bool (n, n) each."""
    itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    return (classes[:, None] == classes) & ~itself, itself


def _squared(units: Tensor) -> Tensor:
    """Return squared distances (n, n) of vectors of unit length."""
    return (2 - 2 * units @ units.T).clamp_min(0)
