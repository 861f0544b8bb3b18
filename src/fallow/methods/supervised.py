"""Labels only: the honest opponent of every method that also looks at the pool."""

from __future__ import annotations

from typing import ClassVar

import torch

from fallow.methods.base import (
    Batch,
    JointMethod,
    MethodInfo,
    Step,
    StepContext,
    Strength,
    Views,
    global_mean,
)
from fallow.tasks import Task


class Supervised(JointMethod):
    """Minimize the task's loss on noised labeled images.

    Args:
        task: What a label is.
        strength: How the images are noised.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="finetune",
        title="labels only, on noised images",
        family="supervised",
        paper="Cubuk et al. 2019, arXiv 1909.13719 (noise); Zhang et al. 2018, arXiv 1710.09412 (mixup)",
        needs=("labels",),
        suits="always: whatever looks at unlabeled images has to beat it",
        cost=1.0,
    )

    def __init__(self, task: Task, *, strength: Strength = "strong") -> None:
        super().__init__(task)
        self.views = Views(labeled=(strength,), unlabeled=())

    def step(self, batch: Batch, ctx: StepContext) -> Step:
        """Return the mean loss of the labeled units."""
        (outputs,) = ctx.model(batch.labeled[0])
        losses = self.task.losses(outputs, batch.targets)
        loss = global_mean(losses, torch.ones_like(losses), ctx)
        return Step(loss, logs={"supervised_loss": loss.detach()})
