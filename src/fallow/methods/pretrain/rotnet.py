"""RotNet: by how much was the image turned?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fallow.augment import Policy
from fallow.methods.base import Batch, MethodInfo, Step, Views
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.crops import plain_crops
from fallow.methods.pretrain.parts import float32

_TURNS = 4


class RotNet(PretrainMethod):
    """Minimize the cross-entropy of the quarter turns that each image was given; it is shown in all four.

    Gidaris et al. 2018, arXiv 1803.07728, eq. 2 and 3.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="rotnet",
        title="by how many quarter turns was the image turned?",
        family="pretrain",
        paper="Gidaris et al. 2018, arXiv 1803.07728",
        needs=("unlabeled",),
        suits="photos with an upright; of no use where images have none, such as aerial ones or cells",
        cost=4.0,
    )
    views = Views(labeled=(), unlabeled=("first",))

    def augmentations(
        self, size: int, *, gray: bool = False, flips: Sequence[str] = ("hflip",)
    ) -> dict[str, Policy]:
        """Return a resized crop, and a flip from left to right at most: one upside down would be a turn."""
        return {"first": plain_crops(size, gray, [flip for flip in flips if flip == "hflip"])}

    def make(self, dim: int) -> None:
        """Make the head."""
        self.projector = nn.Linear(dim, _TURNS)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the mean cross-entropy over images and turns."""
        (images,) = batch.unlabeled
        features = ctx.features(*(images.rot90(turns, (2, 3)) for turns in range(_TURNS)))
        answers = self.projector(torch.cat(features))
        with float32(answers):
            turned = torch.arange(_TURNS, device=images.device).repeat_interleave(len(images))
            loss = cross_entropy(answers.float(), turned)
        right = (answers.argmax(1) == turned).float().mean()
        health = {"chance_loss": loss.new_tensor(math.log(_TURNS)), "features": features[0].detach()}
        return Step(loss, {"turns_right": right}, health)
