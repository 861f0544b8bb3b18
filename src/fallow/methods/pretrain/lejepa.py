"""LeJEPA: views predict their mean, and embeddings are a standard normal cloud."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext
from fallow.methods.pretrain.crops import MultiCrop
from fallow.methods.pretrain.parts import float32, mlp, width

_POINTS, _END = 17, 5.0
"""The statistic is integrated over so many points from -5 to 5."""


class LeJEPA(MultiCrop):
    """Minimize the distance of all crops from the mean of the large ones, and how far embeddings are from a normal distribution.

    Balestriero and LeCun 2025, arXiv 2511.08544: (1 - ``weight``) * prediction + ``weight`` * SIGReg. SIGReg looks at the
    embeddings along random directions, new ones at each step, and compares their characteristic function with that of N(0, 1)
    (Epps and Pulley 1983), over the images of all processes. There is no teacher, no queue, no gradient that is stopped and no
    schedule, and small batches do. Crops of one size share a pass.

    Args:
        weight: Of SIGReg.
        slices: Random directions at each step.
        local_crops: Small crops of each image; None: 6, and none of images below 64 pixels a side.
        hidden: Width of the projector's hidden layers; None: 4 times that of the features (2,048 for the paper's 512).
        out: Width of its output.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="lejepa",
        title="views predict their mean, and embeddings are a standard normal cloud",
        family="pretrain",
        paper="Balestriero and LeCun 2025, arXiv 2511.08544",
        needs=("unlabeled",),
        suits="small data and small batches; one knob, and a loss that says how good the features are",
        cost=3.5,
    )
    recipe = "lejepa"
    scales = ((0.3, 1.0), (0.05, 0.3))
    directions = False
    least_batch = 64

    def __init__(
        self,
        *,
        weight: float = 0.05,
        slices: int = 1024,
        local_crops: int | None = None,
        hidden: int | None = None,
        out: int = 64,
    ) -> None:
        super().__init__(local_crops=local_crops)
        self.weight, self.slices, self.hidden, self.out = weight, slices, hidden, out

    def make(self, dim: int) -> None:
        """Make the projector."""
        super().make(dim)
        hidden = width(self.hidden, dim, 4)
        self.projector = mlp(dim, hidden, hidden, self.out)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the weighted sum of both terms."""
        features = ctx.features(*batch.unlabeled)
        projected = self.projector(torch.cat(features))
        with float32(projected):
            views = projected.float().split([len(x) for x in features])
            middle = (views[0] + views[1]) / 2
            prediction = torch.stack([(view - middle).square().mean() for view in views]).mean()
            generator = torch.Generator().manual_seed(ctx.step)  # the same directions in all processes
            drawn = torch.randn(self.slices, views[0].shape[1], generator=generator)
            drawn = normalize(drawn, dim=1).to(projected.device)
            shape = torch.stack([sigreg(view, drawn, ctx) for view in views]).mean()
            loss = (1 - self.weight) * prediction + self.weight * shape
            point = sigreg(torch.zeros_like(views[0]), drawn[:1], ctx)  # all images in one point
        logs = {"prediction_loss": prediction.detach(), "shape_loss": shape.detach()}
        health = {
            "chance_loss": self.weight * point.detach(),
            "embeddings": views[0].detach(),
            "partners": views[1].detach(),
            "features": features[0].detach(),
        }
        return Step(loss, logs, health)


def sigreg(embeddings: Tensor, directions: Tensor, ctx: PretrainContext) -> Tensor:
    """Return how far embeddings (n, d) are from N(0, 1) along directions (k, d), on average: 1 or so when they are not.

    The integral of |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) over t, times the number of images of all processes.
    """
    t = torch.linspace(0, _END, _POINTS // 2 + 1, device=embeddings.device)  # both sides are the same
    angles = (embeddings @ directions.T)[:, :, None] * t
    waves = torch.stack([angles.cos().mean(0), angles.sin().mean(0)])
    mean = ctx.gather(waves[None]).mean(0)
    normal = torch.exp(-t.square() / 2)
    miss = ((mean[0] - normal).square() + mean[1].square()) * normal
    return 2 * torch.trapezoid(miss, t, dim=1).mean() * len(embeddings) * ctx.world_size
