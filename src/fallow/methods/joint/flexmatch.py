"""FlexMatch: classes that are learned less are asked for less confidence."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from fallow.methods.base import MethodInfo, StepContext
from fallow.methods.joint.consistency import Common, Consistency, Lesson, Seen
from fallow.methods.joint.targets import TINY, by_class, of_decision, per_class
from fallow.tasks import FeatureInfo, Posteriors, Task


class FlexMatch(Consistency):
    """FlexMatch (Zhang et al. 2021, arXiv 2110.08263, eq. 5 to 11 and algorithm 1).

    Each pool image's last confident pseudo-label is remembered; a class that many images have is asked for the full
    threshold, others for less. Where an image has many units (pixels, boxes) the share of them that confidently said
    each class is remembered, and of a multi-label image each label's last confident yes or no: two outcomes, counted as
    two classes. The memory takes two bytes an image and class.

    Args:
        task: What a label is.
        threshold: Confidence that the best-learned class is asked for, and from which pseudo-labels are remembered.
        warm_up: Compare with the number of images that have no pseudo-label yet (eq. 11), so that thresholds start low.
        common: See `Consistency`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="flexmatch",
        title="FixMatch with lower thresholds for classes that are learned less",
        family="joint",
        paper="Zhang et al. 2021, arXiv 2110.08263",
        needs=("labels", "unlabeled"),
        suits="classes of equal size but unequal difficulty; low thresholds let errors in when labels are few",
        cost=1.5,
    )
    learned: Tensor

    def __init__(
        self, task: Task, *, threshold: float = 0.95, warm_up: bool = True, **common: Unpack[Common]
    ) -> None:
        super().__init__(task, **common)
        self.threshold, self.warm_up = threshold, warm_up

    def build(self, feature_info: FeatureInfo, n_images: int, n_classes: int, total_steps: int) -> None:
        """Make the memory, (images, classes): the share of an image's units; for yes and no 1 and -1."""
        self.register_buffer("learned", torch.zeros(n_images, n_classes, dtype=torch.half))

    def teach(self, seen: Seen, ctx: StepContext) -> Lesson:
        """Return hard targets above each class's threshold, then remember what was confident."""
        table = self.thresholds(seen.teacher)
        weight = seen.teacher.score > of_decision(table, seen.teacher)
        self.remember(seen, ctx)
        return Lesson(seen.teacher.hard(), weight, by_class(table, seen.teacher))

    def thresholds(self, posteriors: Posteriors) -> Tensor:
        """Return the threshold of each outcome, (problems, outcomes): M(beta) x threshold, M(x) = x / (2 - x)."""
        yes = self.learned.clamp_min(0).sum(0, dtype=torch.float32)
        if posteriors.independent:
            no = -self.learned.clamp_max(0).sum(0, dtype=torch.float32)
            counts = torch.stack([no, yes], 1)
        else:
            counts = yes[None]
        most = counts.amax(1, keepdim=True)
        if self.warm_up:
            most = torch.maximum(most, len(self.learned) - counts.sum(1, keepdim=True))
        beta = counts / most.clamp_min(TINY)
        return beta / (2 - beta) * self.threshold

    @torch.no_grad()
    def remember(self, seen: Seen, ctx: StepContext) -> None:
        """Write confident pseudo-labels into the memory; what was remembered stays where none is confident."""
        said, index = seen.teacher, seen.teacher.image_index
        images = len(seen.batch.index)
        sure = (said.score > self.threshold) * seen.trust
        decisions = said.hard().probs * 2 - 1 if said.independent else said.hard().probs
        rows = decisions.new_zeros(images, decisions.shape[1])
        rows = rows.index_add(0, index, per_class(sure, said) * decisions)
        units = rows.new_zeros(images).index_add(0, index, torch.ones_like(rows[:, 0])[index])
        rows = ctx.gather((rows / units.clamp_min(1)[:, None]).to(self.learned.dtype))
        where = ctx.gather(seen.batch.index.to(rows.device))
        confident = rows != 0 if said.independent else (rows != 0).any(1, keepdim=True)
        self.learned[where] = torch.where(confident, rows, self.learned[where])
