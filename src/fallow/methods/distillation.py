"""Distillation: a small network learns what a large one says of every image, labeled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fallow.methods.base import Batch, JointMethod, MethodInfo, Step, StepContext, Views, global_mean
from fallow.tasks import FeatureInfo, Posteriors, Task, View


class Distillation(JointMethod):
    """Learn a teacher's soft labels, and its features where asked (Hinton et al. 2015, arXiv 1503.02531; Romero et al. 2015,
    arXiv 1412.6550).

    The loss is ``label_weight`` times the mean over labeled units, plus the mean cross-entropy to the teacher's soft labels
    over a weak and a strong view of each unlabeled image, plus ``feature_weight`` times the mean of 1 - cosine between the
    teacher's features and a linear projection of the student's. Soft labels are taken as they are, without a temperature:
    those of Fallow's teachers are calibrated already, and not the near-certain ones that a temperature was invented for.

    Args:
        task: What a label is.
        teacher: Returns what the teacher said of unlabeled images, by their position in the pool, (m,); posteriors of
            whole images, in the geometry of the untouched image.
        features: Returns the teacher's features of the same images, (m, dim); None: they are not matched.
        feature_dim: ``dim`` of those.
        label_weight: Weight of the labels' own loss. Half of the teacher's: it has learned them already, and what it says of
            them is softer.
        feature_weight: Weight of the features' loss.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="distillation",
        title="a small network learns what a large one says of all images",
        family="joint",
        paper="Hinton et al. 2015, arXiv 1503.02531; Romero et al. 2015, arXiv 1412.6550",
        needs=("labels", "unlabeled"),
        suits="the model is good and too slow or too large for where it has to run",
        cost=2.0,
    )
    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))

    def __init__(
        self,
        task: Task,
        *,
        teacher: Callable[[Tensor], Posteriors],
        features: Callable[[Tensor], Tensor] | None = None,
        feature_dim: int = 0,
        label_weight: float = 0.5,
        feature_weight: float = 1.0,
    ) -> None:
        super().__init__(task)
        self._teacher, self._features, self._dim = teacher, features, feature_dim
        self.label_weight, self.feature_weight = label_weight, feature_weight
        self.projector: nn.Linear | None = None

    def build(self, feature_info: FeatureInfo, n_images: int, n_classes: int, total_steps: int) -> None:
        """Make the projection from the student's features to the teacher's."""
        if self._features is not None:
            self.projector = nn.Linear(feature_info.dim, self._dim, bias=False)

    def step(self, batch: Batch, ctx: StepContext) -> Step:
        """Return the loss on labels plus the distance to what the teacher said."""
        labeled, weak, strong = ctx.features(batch.labeled[0], *batch.unlabeled)
        known = self.task.losses(ctx.head(labeled), batch.targets)
        supervised = global_mean(known, torch.ones_like(known), ctx)
        said = self._teacher(batch.index)
        taught = torch.zeros_like(supervised)
        for features, view in zip((weak, strong), batch.unlabeled_views, strict=True):
            target = said.warp(View(), view)
            weight = target.weight
            if batch.weights is not None:
                trust = batch.weights[target.image_index]
                weight = weight * (trust[:, None] if target.independent else trust)
            taught = taught + global_mean(self.task.divergence(ctx.head(features), target, "ce"), weight, ctx)
        loss = self.label_weight * supervised + taught / 2
        logs = {"supervised_loss": supervised.detach(), "unsupervised_loss": taught.detach() / 2}
        if self.projector is not None and self._features is not None:
            apart = 1 - cosine_similarity(self.projector(weak), self._features(batch.index), dim=1)
            matched = global_mean(apart, torch.ones_like(apart), ctx)
            loss, logs["feature_loss"] = loss + self.feature_weight * matched, matched.detach()
        return Step(loss, logs=logs, health={"utilization": said.weight.mean()})
