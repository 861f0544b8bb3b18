"""Noisy Student: a teacher labels the pool, undisturbed; a student learns that under noise, and comes out ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from fallow.methods.base import Batch, JointMethod, MethodInfo, Step, StepContext, Views, global_mean
from fallow.tasks import Posteriors, Task, View


class NoisyStudent(JointMethod):
    """Learn labels and a teacher's soft labels together, all images strongly noised (Xie et al. 2020, arXiv 1911.04252).

    The network's own noise (dropout, stochastic depth) is set where it is built. The loss is the mean over labeled units
    plus ``unlabeled_weight`` times the weighted mean over unlabeled ones; the paper averages both in one batch, which is the
    same at the weight that their numbers have.

    Args:
        task: What a label is.
        teacher: Returns what the teacher said of unlabeled images, by their position in the pool, (m,); posteriors of
            whole images, in the geometry of the untouched image.
        unlabeled_weight: Weight of the pool's loss.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="noisy_student",
        title="a teacher labels the pool, a noised student learns it",
        family="joint",
        paper="Xie et al. 2020, arXiv 1911.04252",
        needs=("labels", "unlabeled"),
        suits="a good teacher is there already: label propagation on strong features, or several models that differ",
        cost=2.0,
    )
    views = Views(labeled=("strong",), unlabeled=("strong",))

    def __init__(
        self, task: Task, *, teacher: Callable[[Tensor], Posteriors], unlabeled_weight: float = 1.0
    ) -> None:
        super().__init__(task)
        self._teacher, self.unlabeled_weight = teacher, unlabeled_weight

    def step(self, batch: Batch, ctx: StepContext) -> Step:
        """Return the loss on labels plus the cross-entropy to the teacher's soft labels."""
        outputs, noised = ctx.model(batch.labeled[0], batch.unlabeled[0])
        known = self.task.losses(outputs, batch.targets)
        said = self._teacher(batch.index).warp(View(), batch.unlabeled_views[0])
        weight = said.weight
        if batch.weights is not None:
            trust = batch.weights[said.image_index]
            weight = weight * (trust[:, None] if said.independent else trust)
        supervised = global_mean(known, torch.ones_like(known), ctx)
        unsupervised = global_mean(self.task.divergence(noised, said, "ce"), weight, ctx)
        return Step(
            supervised + self.unlabeled_weight * unsupervised,
            logs={"supervised_loss": supervised.detach(), "unsupervised_loss": unsupervised.detach()},
            health={"utilization": weight.mean()},
        )
