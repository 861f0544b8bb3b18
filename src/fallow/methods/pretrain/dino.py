"""DINO: small crops say what a slow average says of large ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, log_softmax, normalize, softmax

from fallow.errors import ConfigError
from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, Teacher
from fallow.methods.pretrain.crops import MultiCrop
from fallow.methods.pretrain.parts import float32, width
from fallow.methods.pretrain.prototypes import Prototypes, prototype_count, sinkhorn

_EVENLY = 0.03
"""Temperature of the teacher in a short run whose images are shared out evenly, as in SwAV."""
_CENTERING = (
    "In runs of 10,000 steps and more the paper's moving mean; in shorter ones, where that does not settle, images are shared out "
    "evenly over the outputs."
)


class DINO(MultiCrop):
    """Minimize the cross-entropy of the student's outputs for all crops and the teacher's for the large ones.

    Caron et al. 2021, arXiv 2104.14294, alg. 1: the teacher's outputs are centered by their moving mean over all processes and
    sharpened; or the images of a step are shared out evenly over the outputs, as in DINOv2 (Oquab et al. 2023, 2304.07193, sec. 4),
    which a short run needs: its mean does not settle, and it stays at chance. The last layer has weights of length 1 and stands
    still in the first pass over the images. What leaves is the teacher. Crops of one size share a pass.

    Args:
        centering: ``mean`` or ``sinkhorn``; None: ``mean`` in runs of 10,000 steps and more. 250 steps on 4,000 CIFAR-10 images,
            nearest neighbors right: 26.9 % with ``mean``, 36.3 % with ``sinkhorn``, 25.8 % before.
        prototypes: Outputs; None: one for 20 images, 512 at least and the paper's 65,536 at most; with ``sinkhorn`` in a short run half
            as many as images of a step, which are shared out over them.
        temperature: Of the student.
        teacher_first: Temperature of the teacher at the first step, rising linearly to ``teacher_last`` over ``teacher_warmup``; None:
            0.04, in a short run with ``sinkhorn`` 0.03 (the same 250 steps with 0.04: 33.5 %).
        teacher_last: Temperature of the teacher after that; None: 0.07, in such a run 0.03.
        teacher_warmup: Share of the run (the paper: 30 of 300 passes).
        center_momentum: Share of the center that stays at each step.
        local_crops: Small crops of each image; None: 8, and none of images below 64 pixels a side.
        hidden: Width of the head's hidden layers; None: that of the features, 256 at least (2,048 in the paper).
        bottleneck: Width before the last layer.
        head_norm: Whether BatchNorm follows the head's hidden layers; None: in networks without tokens, whose features are much alike
            at first: without it a short run stays at chance (120 steps on 3,000 CIFAR-10 images, nearest neighbors: 24.5 % right,
            27.9 % with it, 24.7 % before).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="dino",
        title="small crops of an image say what a slow average says of large ones",
        family="pretrain",
        paper="Caron et al. 2021, arXiv 2104.14294",
        needs=("unlabeled",),
        suits="vision transformers, above all, and large images of which parts say what the whole is",
        cost=5.0,
    )
    recipe = "dino"
    teacher = Teacher(0.996)
    leaves = "teacher"
    directions = False
    least_batch = 64
    chance_is_final = False
    papers_crops = 8
    papers_prototypes: ClassVar[int] = 65536

    center: Tensor
    projector: DINOHead

    def __init__(
        self,
        *,
        centering: Literal["mean", "sinkhorn"] | None = None,
        prototypes: int | None = None,
        temperature: float = 0.1,
        teacher_first: float | None = None,
        teacher_last: float | None = None,
        teacher_warmup: float = 0.1,
        center_momentum: float = 0.9,
        local_crops: int | None = None,
        hidden: int | None = None,
        bottleneck: int = 256,
        head_norm: bool | None = None,
    ) -> None:
        super().__init__(local_crops=local_crops)
        if centering not in (None, "mean", "sinkhorn"):
            raise ConfigError(f"there is no centering '{centering}': use mean or sinkhorn")
        self.asked, self.count, self.sharp = centering, prototypes, (teacher_first, teacher_last)
        self.temperature, self.center_momentum = temperature, center_momentum
        self.teacher_warmup = teacher_warmup
        self.hidden, self.bottleneck, self.head_norm = hidden, bottleneck, head_norm

    def make(self, dim: int) -> None:
        """Make the head and the center."""
        super().make(dim)
        self.centering = self.settle(
            "centering", self.asked, "sinkhorn" if self.short else "mean", _CENTERING
        )
        evenly = self.short and self.centering == "sinkhorn"
        first, last = (_EVENLY, _EVENLY) if evenly else (0.04, 0.07)
        rule = f"The paper's; {_EVENLY} in a short run, where outputs are much alike at first."
        self.teacher_first = self.settle("teacher_first", self.sharp[0], first, rule)
        self.teacher_last = self.settle("teacher_last", self.sharp[1], last, rule)
        usual = prototype_count(None, self.n_images, self.papers_prototypes, 512)
        rule = "One for 20 images, within bounds; in a short run half as many as images of a step, which are shared out over them."
        most = max(2, self.batch_size // 2)
        count = self.settle("prototypes", self.count, min(usual, most) if evenly else usual, rule)
        norm = self.tokens is None if self.head_norm is None else self.head_norm
        self.projector = DINOHead(dim, width(self.hidden, dim, 1, 256), self.bottleneck, count, norm)
        self.register_buffer("center", torch.zeros(1, count))

    def teacher_temperature(self, ctx: PretrainContext) -> float:
        """Return the temperature of the teacher at this step."""
        warm = self.teacher_warmup * ctx.total_steps
        share = min(ctx.step / warm, 1.0) if warm else 1.0
        return self.teacher_first + share * (self.teacher_last - self.teacher_first)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the mean cross-entropy over pairs of a large crop and another crop."""
        with torch.no_grad():
            seen = torch.cat(ctx.teacher_features(*batch.unlabeled[:2]))
            said: Tensor = ctx.teacher_method().projector(seen).float()
            targets = self.targets(said, self.center, ctx).chunk(2)
        features = ctx.features(*batch.unlabeled)
        answers = self.projector(torch.cat(features), self.epoch(ctx.step) > 0)
        answers = (answers.float() / self.temperature).split([len(x) for x in features])
        loss = across_views(targets, answers)
        self.recenter(self.center, said, ctx)
        health = {
            "chance_loss": loss.new_tensor(math.log(said.shape[1])),
            "embeddings": features[0].detach(),
            "partners": features[1].detach(),
            "features": features[0].detach(),
            "target_entropy": -(targets[0] * (targets[0] + 1e-12).log()).sum(1).mean(),
        }
        return Step(loss, health=health)

    @torch.no_grad()
    def targets(self, said: Tensor, center: Tensor, ctx: PretrainContext) -> Tensor:
        """Return what the teacher means by its outputs (n, count), sharpened and not all the same: each row sums to 1."""
        sharp = self.teacher_temperature(ctx)
        if self.centering == "sinkhorn":
            return sinkhorn(said, ctx, epsilon=sharp)
        return softmax((said - center) / sharp, dim=1)

    @torch.no_grad()
    def recenter(self, center: Tensor, said: Tensor, ctx: PretrainContext) -> None:
        """Move a center (1, count) towards the mean of the teacher's outputs (n, count) over all processes, where one is taken off."""
        if self.centering != "mean":
            return
        total = ctx.reduce(said.sum(0, keepdim=True))
        mean = total / ctx.reduce(said.new_full((), float(len(said))))
        center.lerp_(mean, 1 - self.center_momentum)


def across_views(targets: Sequence[Tensor], answers: Sequence[Tensor]) -> Tensor:
    """Return the mean cross-entropy of what is said of a large crop, (n, count) probabilities, and of each other crop, as logits."""
    losses = [
        -(target * log_softmax(answer, dim=1)).sum(1).mean()
        for large, target in enumerate(targets)
        for other, answer in enumerate(answers)
        if other != large
    ]
    return torch.stack(losses).mean()


class DINOHead(nn.Module):
    """Three layers to a vector of unit length, and its cosines with prototypes.

    Args:
        dim: Channels of the features.
        hidden: Width of the hidden layers.
        bottleneck: Length of the vector.
        count: Number of prototypes.
        norm: Whether BatchNorm follows the hidden layers.
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, count: int, norm: bool = False) -> None:
        super().__init__()
        sizes = [dim, hidden, hidden, bottleneck]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) if norm else nn.Identity() for _ in range(2))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.prototypes = Prototypes(bottleneck, count)

    def forward(self, x: Tensor, moving: bool = True) -> Tensor:
        """Return outputs (n, count) of features (n, dim), in float32."""
        for layer, own in zip(self.layers[:-1], self.norms, strict=True):
            x = gelu(own(layer(x)))
        x = self.layers[-1](x)
        with float32(x):
            cosines: Tensor = self.prototypes(normalize(x.float(), dim=1), moving)
            return cosines
