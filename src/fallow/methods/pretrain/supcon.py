"""SupCon: images of one class find each other; images without a label find their own other view."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fallow.methods.base import Batch, MethodInfo, Step, Views
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.parts import float32, mlp, width


class SupCon(PretrainMethod):
    """Minimize the mean cross-entropy of all views of the own class among the views of all images.

    Khosla et al. 2020, arXiv 2004.11362, eq. 2. An image without a label is a class of its own, for which that is NT-Xent, so
    that few labels and a large pool learn together. Images of all processes are among the others, with gradient.

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
    views = Views(labeled=("first", "second"), unlabeled=("first", "second"))
    recipe = "simclr"
    least_batch = 128

    def __init__(self, *, temperature: float = 0.1, hidden: int | None = None, out: int = 128) -> None:
        super().__init__()
        self.temperature, self.hidden, self.out = temperature, hidden, out

    def make(self, dim: int) -> None:
        """Make the projector."""
        self.projector = mlp(dim, width(self.hidden, dim, 1), self.out)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss of labeled and unlabeled images together."""
        images = (*batch.labeled, *batch.unlabeled)
        features = ctx.features(*images)
        projected = self.projector(torch.cat(features))
        with float32(projected):
            units = normalize(projected.float(), dim=1)
            losses, chance = self._losses(units, self._classes(batch), ctx)
        parts = torch.split(units.detach(), [len(x) for x in images])
        health = {
            "chance_loss": chance.mean(),
            "embeddings": torch.cat(parts[::2]),
            "partners": torch.cat(parts[1::2]),
            "features": torch.cat(features[::2]).detach(),
        }
        return Step(losses.mean(), health=health)

    def _classes(self, batch: Batch) -> Tensor:
        """Return which class each view is of; an image without a label has one of its own, behind those that are known."""
        own = self.n_classes + batch.index
        if not batch.labeled:
            return own.repeat(2)
        known = batch.targets if batch.targets.ndim == 1 else batch.targets.argmax(1)
        return torch.cat([known.repeat(2), own.repeat(2)])

    def _losses(self, units: Tensor, classes: Tensor, ctx: PretrainContext) -> tuple[Tensor, Tensor]:
        everyone, their = ctx.gather(units), ctx.gather(classes)
        itself = torch.arange(len(units), device=units.device) + ctx.rank * len(units)
        logits = (units @ everyone.T / self.temperature).scatter(1, itself[:, None], -torch.inf)
        same = (classes[:, None] == their).scatter(1, itself[:, None], False)
        apart = torch.logsumexp(logits, 1, keepdim=True) - logits
        losses = torch.where(same, apart, 0).sum(1) / same.sum(1)
        return losses, losses.new_full((), float(len(everyone) - 1)).log()
