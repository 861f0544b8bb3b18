"""MSN: an image of which parts are missing is sorted to the prototypes that the whole image is sorted to."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, Teacher
from fallow.methods.pretrain.crops import MultiCrop
from fallow.methods.pretrain.masks import kept_for
from fallow.methods.pretrain.parts import float32, mlp, width
from fallow.methods.pretrain.prototypes import Prototypes, prototype_count, sinkhorn

_MISSING = ((384, 0.15), (768, 0.3))
"""Share of the parts that the paper leaves out, by channels of a token at most."""


class MSN(MultiCrop):
    """Minimize the cross-entropy of prototypes between an image with parts left out, or a small crop, and a slow average's of the whole.

    Assran et al. 2022, arXiv 2204.07141, eq. 1: targets are sharpened, and the mean over all that is predicted, over all processes,
    is to be spread (me-max), so that not all images are sorted to one prototype. Its term is ln of the prototypes' number less
    the entropy, 0 at best. Nothing is filled in for missing parts, which makes steps cheap. What leaves is the teacher.

    Args:
        prototypes: Their number; None: one for 20 images, 128 at least and the paper's 1,024 at most.
        missing: Share of the parts of a large crop that is left out; None: 0.15 for tokens of 384 channels and fewer, 0.3 up to
            768, else 0.7.
        temperature: Divides the cosines.
        target_temperature: Divides those of the teacher.
        spread: Weight of me-max.
        balance: Whether targets are shared out over prototypes by Sinkhorn, as in the authors' code and not in eq. 1. Without it all
            images may be sorted alike: one large share and many small ones satisfy me-max and sharpening half. A small transformer
            from scratch on digits fell into that (nearest neighbors right: 35.5 % before, 26.7 % after 240 steps; with it 34.8 % and
            40.3 % after 120).
        local_crops: Small crops of each image; None: 10, and none of images below 64 pixels a side.
        hidden: Width of the projector's hidden layers; None: 5 times that of the features (2,048 for the paper's 384).
        out: Width of its output.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="msn",
        title="an image with missing parts is sorted to the prototypes of the whole image",
        family="pretrain",
        paper="Assran et al. 2022, arXiv 2204.07141",
        needs=("unlabeled", "vision transformer"),
        suits="pretrained vision transformers, or long runs, where very few labels come afterwards; kinds of images about as frequent",
        cost=4.0,
    )
    recipe = "msn"
    teacher = Teacher(0.996)
    scales = ((0.3, 1.0), (0.05, 0.3))
    leaves = "teacher"
    least_batch = 64
    chance_is_final = False
    needs_tokens = True
    papers_crops = 10

    def __init__(
        self,
        *,
        prototypes: int | None = None,
        missing: float | None = None,
        temperature: float = 0.1,
        target_temperature: float = 0.025,
        spread: float = 1.0,
        balance: bool = True,
        local_crops: int | None = None,
        hidden: int | None = None,
        out: int = 256,
    ) -> None:
        super().__init__(local_crops=local_crops)
        self.count, self.missing, self.spread, self.balance = prototypes, missing, spread, balance
        self.temperature, self.target_temperature = temperature, target_temperature
        self.hidden, self.out = hidden, out

    def make(self, dim: int) -> None:
        """Make projector and prototypes."""
        super().make(dim)
        assert self.tokens is not None
        missing = self.missing
        if missing is None:
            missing = next((share for most, share in _MISSING if self.tokens.dim <= most), 0.7)
        self.kept = max(1, round(self.tokens.count * (1 - missing)))
        hidden = width(self.hidden, dim, 5)
        self.projector = mlp(dim, hidden, hidden, self.out)
        self.prototypes = Prototypes(self.out, prototype_count(self.count, self.n_images, 1024))

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss: the first large crop is the target, of the second parts are missing."""
        assert self.tokens is not None
        whole, large, *small = batch.unlabeled
        goal, target = self._target(whole, ctx)
        kept = kept_for(batch.index, ctx.step, self.tokens.count, self.kept)
        features = [ctx.pooled(ctx.tokens(large, kept=kept)), *ctx.features(*small)]
        projected = self.projector(torch.cat(features))
        with float32(projected):
            units = normalize(projected.float(), dim=1)
            logs = log_softmax(self.prototypes(units) / self.temperature, dim=1)
            loss = -(target.repeat(len(features), 1) * logs).sum(1).mean()
            mean = ctx.gather(logs.exp().mean(0, keepdim=True)).mean(0)
            narrow = math.log(len(mean)) + torch.xlogy(mean, mean).sum()
        health = {
            "chance_loss": loss.new_tensor(math.log(len(mean))),
            "embeddings": units[: len(large)].detach(),
            "partners": goal,
            "features": features[0].detach(),
        }
        seen = {"prediction_loss": loss.detach(), "spread_loss": narrow.detach()}
        return Step(loss + self.spread * narrow, seen, health)

    @torch.no_grad()
    def _target(self, whole: Tensor, ctx: PretrainContext) -> tuple[Tensor, Tensor]:
        """Return what the teacher makes of whole crops, of unit length, and their shares of the prototypes."""
        (seen,) = ctx.teacher_features(whole)
        goal = normalize(ctx.teacher_method().projector(seen).float(), dim=1)
        with float32(goal):
            logs = log_softmax(self.prototypes(goal) / self.target_temperature, dim=1)
            return goal, sinkhorn(logs, ctx, epsilon=1.0) if self.balance else logs.exp()
