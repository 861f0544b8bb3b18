"""SupCon: images of one class find each other; images without a label find their own other view."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fallow.methods.base import MethodInfo
from fallow.methods.pretrain.base import PretrainContext
from fallow.methods.pretrain.classes import ClassMethod
from fallow.methods.pretrain.parts import mlp, width


class SupCon(ClassMethod):
    """Minimize the mean cross-entropy of all views of the own class among the views of all images.

    Khosla et al. 2020, arXiv 2004.11362, eq. 2. For an image without a label, which is a class of its own, that is NT-Xent.
    Images of all processes are among the others, with gradient.

    Args:
        temperature: Divides the cosines.
        hidden: Width of the projector's hidden layer; None: that of the features.
        out: Width of its output.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="supcon",
        title="images of one class find each other; those without label their own other view",
        family="pretrain",
        paper="Khosla et al. 2020, arXiv 2004.11362",
        needs=("labels", "unlabeled"),
        suits="some labels are there, and the features are to serve just these classes",
        cost=2.0,
    )
    recipe = "simclr"
    least_batch = 128

    def __init__(self, *, temperature: float = 0.1, hidden: int | None = None, out: int = 128) -> None:
        super().__init__()
        self.temperature, self.hidden, self.out = temperature, hidden, out

    def make(self, dim: int) -> None:
        """Make the projector."""
        super().make(dim)
        self.projector = mlp(dim, width(self.hidden, dim, 1), self.out)

    def compare(self, units: Tensor, classes: Tensor, ctx: PretrainContext) -> tuple[Tensor, Tensor]:
        """Return the loss of this process's images, and the logarithm of the number of others."""
        everyone, their = ctx.gather(units), ctx.gather(classes)
        itself = torch.arange(len(units), device=units.device) + ctx.rank * len(units)
        logits = (units @ everyone.T / self.temperature).scatter(1, itself[:, None], -torch.inf)
        same = (classes[:, None] == their).scatter(1, itself[:, None], False)
        apart = torch.logsumexp(logits, 1, keepdim=True) - logits
        losses = torch.where(same, apart, 0).sum(1) / same.sum(1)
        return losses.mean(), losses.new_full((), float(len(everyone) - 1)).log()
