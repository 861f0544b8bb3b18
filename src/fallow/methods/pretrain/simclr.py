"""SimCLR: an image's two views find each other among all others."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.parts import contrast, float32, mlp, width


class SimCLR(PretrainMethod):
    """Minimize NT-Xent, the cross-entropy of an image's other view among all views of other images.

    Chen et al. 2020, arXiv 2002.05709, eq. 1: with N images, each of the 2N views is an anchor once. Images of all
    processes are among the others, with gradient. An image that a batch holds twice is not pushed away from itself.

    Args:
        temperature: Divides the cosines; 0.5 is the paper's for small images (app. B.9), 0.1 for ImageNet with large batches.
        hidden: Width of the projector's hidden layer; None: that of the features.
        out: Width of its output.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="simclr",
        title="two views of an image find each other among all others",
        family="pretrain",
        paper="Chen et al. 2020, arXiv 2002.05709",
        needs=("unlabeled",),
        suits="batches of 256 images and more; the simplest to understand when something goes wrong",
        cost=2.0,
    )
    recipe = "simclr"
    least_batch = 256

    def __init__(self, *, temperature: float = 0.5, hidden: int | None = None, out: int = 128) -> None:
        super().__init__()
        self.temperature, self.hidden, self.out = temperature, hidden, out

    def make(self, dim: int) -> None:
        """Make the projector."""
        self.projector = mlp(dim, width(self.hidden, dim, 1), self.out)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss of both directions; the views share one pass."""
        features = ctx.features(*batch.unlabeled)
        first, second = self.projector(torch.cat(features)).chunk(2)
        with float32(first):
            one, two = normalize(first.float(), dim=1), normalize(second.float(), dim=1)
            loss, chance = nt_xent(one, two, batch.index, self.temperature, ctx)
        health = {
            "chance_loss": chance,
            "embeddings": one.detach(),
            "partners": two.detach(),
            "features": features[0].detach(),
        }
        return Step(loss, health=health)


def nt_xent(
    one: Tensor, two: Tensor, index: Tensor, temperature: float, ctx: PretrainContext
) -> tuple[Tensor, Tensor]:
    """Return NT-Xent over all processes, and its value where all cosines are the same: ln(2N - 1) for N different images.

    Args:
        one: (n, d), unit length, float32.
        two: The other views of the same images, likewise.
        index: Which images they are, (n,).
        temperature: Divides the cosines.
        ctx: The loop.
    """
    others = torch.cat([ctx.gather(one), ctx.gather(two)])
    strangers = index[:, None] != ctx.gather(index).repeat(2)
    strangers = strangers.repeat(2, 1)
    losses, chance = contrast(torch.cat([one, two]), torch.cat([two, one]), others, strangers, temperature)
    return losses.mean(), chance.mean()
