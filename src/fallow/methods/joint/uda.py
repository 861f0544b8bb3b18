"""UDA: the student's whole posterior must match the teacher's sharpened one; labels are released little by little."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Unpack

from torch import Tensor

from fallow.methods.base import MethodInfo, StepContext
from fallow.methods.joint.consistency import Common, Consistency, Lesson, Seen
from fallow.methods.joint.targets import chance, weighted_mean
from fallow.tasks import Divergence, Task

Release = Literal["none", "log", "linear", "exp"]


class UDA(Consistency):
    """Unsupervised data augmentation (Xie et al. 2020, arXiv 1904.12848, section 2 and appendix A.1).

    Args:
        task: What a label is.
        threshold: Confidence, before sharpening, above which a unit counts: 0.8 on CIFAR-10, 0.5 on ImageNet.
        temperature: The teacher's posteriors are sharpened by it.
        release: How the training signal of labels is released (TSA): a labeled unit counts only while its label is
            less likely than a threshold that rises from chance to 1. ``exp`` releases most at the end and suits very
            few labels, ``log`` most at the beginning; ``none`` uses all labels always.
        common: See `Consistency`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="uda",
        title="KL to the teacher's sharpened posterior; labels released little by little",
        family="joint",
        paper="Xie et al. 2020, arXiv 1904.12848",
        needs=("labels", "unlabeled"),
        suits="labels so few that the network would learn them by heart",
        cost=1.5,
    )
    agreement: ClassVar[Divergence] = "kl"

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.8,
        temperature: float = 0.4,
        release: Release = "linear",
        **common: Unpack[Common],
    ) -> None:
        super().__init__(task, **common)
        self.threshold, self.temperature, self.release = threshold, temperature, release

    def teach(self, seen: Seen, ctx: StepContext) -> Lesson:
        """Return sharpened targets above the threshold."""
        target = seen.teacher.sharpen(self.temperature)
        return Lesson(target, seen.teacher.score > self.threshold, self.threshold)

    def supervise(self, seen: Seen, ctx: StepContext) -> Tensor:
        """Return the mean loss of the labeled units that are released: exp(-loss) is the label's probability."""
        released = released_share(self.release, ctx.step / max(ctx.total_steps, 1))
        floor = chance(seen.teacher)
        below = (-seen.supervised.detach()).exp() < released * (1 - floor) + floor
        return weighted_mean(seen.supervised, (below | (released >= 1)).to(seen.supervised.dtype), ctx)


def released_share(release: Release, done: float) -> float:
    """Return alpha of the training signal annealing: how much is released once ``done`` (0..1) of the steps are."""
    if release == "none":
        return 1.0
    if release == "log":
        return 1 - math.exp(-5 * done)
    return done if release == "linear" else math.exp(5 * (done - 1))
