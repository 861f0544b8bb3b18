"""AdaMatch: as sure as the teacher is of labeled images, and with the class shares it gives to those."""

from __future__ import annotations

import math
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from fallow.methods.base import MethodInfo, StepContext
from fallow.methods.joint.consistency import Common, Consistency, Lesson, Seen
from fallow.methods.joint.targets import Running, chance, sums
from fallow.tasks import Posteriors, Task


class AdaMatch(Consistency):
    """AdaMatch (Berthelot et al. 2022, arXiv 2106.04732, section 3).

    Targets are the teacher's soft posteriors, aligned to running means of its posteriors for labeled images (or to
    ``mix``). Random logit interpolation is left out: it evens out BatchNorm between two domains with a second pass over
    the labeled images, while here labels and pool are of one domain and share one pass. The strong view of labeled
    images is left out as well; `follows="self"` is the paper's teacher.

    Args:
        task: What a label is.
        threshold: Confidence from which a unit counts, relative to the mean confidence on the batch's labeled images.
        ramp_up: Share of the run in which the unlabeled weight rises from 0, along half a cosine.
        common: See `Consistency`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="adamatch",
        title="a threshold relative to the confidence on labeled images, aligned class shares",
        family="joint",
        paper="Berthelot et al. 2022, arXiv 2106.04732",
        needs=("labels", "unlabeled"),
        suits="a pool that looks a little different from the labeled images, or when little is known of it",
        cost=1.6,
    )
    aligns: ClassVar[bool] = False

    def __init__(
        self, task: Task, *, threshold: float = 0.9, ramp_up: float = 0.5, **common: Unpack[Common]
    ) -> None:
        super().__init__(task, **common)
        self.threshold, self.ramp_up = threshold, ramp_up
        self.labeled_shares = Running(len(task.classes), momentum=self.momentum)

    def teach(self, seen: Seen, ctx: StepContext) -> Lesson:
        """Return aligned soft targets above the relative threshold."""
        known = self.of_labeled(seen, ctx)
        target = self.alignment(seen.teacher, self.wanted(known, ctx), seen.trust, ctx)
        total, count = sums(known.score.reshape(-1), known.weight.reshape(-1), ctx)
        threshold = self.threshold * total / count.clamp_min(1)
        return Lesson(target, target.score >= threshold, threshold)

    def of_labeled(self, seen: Seen, ctx: StepContext) -> Posteriors:
        """Return what the teacher, whose confidence on the pool is judged, says of the labeled images."""
        (said,) = ctx.teacher(seen.batch.labeled[0])
        return self.task.posteriors(said, seen.batch.labeled_views[0])

    def wanted(self, known: Posteriors, ctx: StepContext) -> Tensor:
        """Return the class shares to align to."""
        if self.mix is not None:
            return self.mix
        total, count = sums(known.probs, torch.ones_like(known.probs), ctx)
        return self.labeled_shares.update(total, count, start=chance(known))

    def ramp(self, ctx: StepContext) -> float:
        """Return 1/2 - cos(min(pi, pi t / T')) / 2 with T' the steps of the ramp."""
        rising = max(self.ramp_up * ctx.total_steps, 1e-9)
        return 0.5 - math.cos(min(math.pi, math.pi * ctx.step / rising)) / 2
