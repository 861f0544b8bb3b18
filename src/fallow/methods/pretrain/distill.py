"""Distill: say of a crop what a frozen teacher says of the whole image."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize, smooth_l1_loss

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext
from fallow.methods.pretrain.crops import PlainCrop
from fallow.methods.pretrain.parts import float32, mlp


class Distill(PlainCrop):
    """Minimize the distance of projected features of a crop from a frozen teacher's features of the whole image.

    The loss is that of AM-RADIO for features (Ranzinger et al. 2023, arXiv 2312.06709): ``share (1 - cosine) + (1 - share)
    smooth-L1``. Targets are centered over the images and scaled by one number, to a mean square of 1 a channel: no channel is
    blown up for being small (PHI-S, Ranzinger et al. 2024, arXiv 2410.01680, without its rotation, which changes no distance and no
    cosine). The teacher sees each image once, before the training: its size costs little.

    Args:
        share: Of the cosine.
        hidden: Width of a hidden layer between features and targets; None: there is none, so that the features themselves hold, up to
            a linear map, what the teacher's do.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="distill",
        title="say of a crop what a frozen teacher says of the whole image",
        family="pretrain",
        paper="Ranzinger et al. 2023, arXiv 2312.06709",
        needs=("unlabeled", "weights"),
        suits="a network that is to be smaller or faster than a good one that you have (--teacher); few images and short runs",
        cost=1.0,
    )
    asks = "teacher"

    target: Tensor

    def __init__(self, *, share: float = 0.9, hidden: int | None = None) -> None:
        super().__init__()
        self.share, self.hidden = share, hidden

    def make(self, dim: int) -> None:
        """Make the projector, and the targets of what is known."""
        assert self.known is not None
        centered = self.known.float() - self.known.float().mean(0)
        target = centered / centered.square().mean().sqrt().clamp_min(1e-7)
        self.register_buffer("target", target, persistent=False)  # made again from what is known
        # The best that can be said of all images alike: their mean direction, and for the distance their mean, 0.
        away = 1 - normalize(target, dim=1).mean(0).norm()
        apart = smooth_l1_loss(torch.zeros_like(target), target)
        self.chance = float(self.share * away + (1 - self.share) * apart)
        wide = target.shape[1]
        self.projector = nn.Linear(dim, wide) if self.hidden is None else mlp(dim, self.hidden, wide)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the mean distance."""
        (features,) = ctx.features(batch.unlabeled[0])
        answers, target = self.projector(features), self.target[batch.index]
        with float32(answers):
            answers = answers.float()
            cosine = cosine_similarity(answers, target, dim=1).mean()
            loss = self.share * (1 - cosine) + (1 - self.share) * smooth_l1_loss(answers, target)
        health = {
            "chance_loss": loss.new_tensor(self.chance),
            "embeddings": answers.detach(),
            "partners": target,
            "features": features.detach(),
        }
        return Step(loss, {"cosine": cosine.detach()}, health)
