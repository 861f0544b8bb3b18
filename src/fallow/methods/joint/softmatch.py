"""SoftMatch: every unlabeled image counts, the less the further its confidence lies below the usual one."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from fallow.methods.base import MethodInfo, StepContext
from fallow.methods.joint.consistency import Common, Consistency, Lesson, Seen
from fallow.methods.joint.targets import TINY, Running, chance, sums
from fallow.tasks import Posteriors, Task


class SoftMatch(Consistency):
    """SoftMatch (Chen et al. 2023, arXiv 2301.10921, eq. 5 to 8).

    Confidence is judged on aligned posteriors (to equal classes, or to ``mix``), so that rare classes count more; the
    target is the class before alignment. Labels of a multi-label image are aligned only to a given ``mix``: their
    shares are not equal by nature.

    Args:
        task: What a label is.
        sigmas: The Gaussian's width is the running standard deviation over this; the paper divides the variance by 4.
        align: Align at all.
        common: See `Consistency`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="softmatch",
        title="all of the pool counts, by a Gaussian of the teacher's confidence",
        family="joint",
        paper="Chen et al. 2023, arXiv 2301.10921",
        needs=("labels", "unlabeled"),
        suits="the safe first choice: no threshold to set, and nothing of the pool is thrown away",
        cost=1.5,
    )
    aligns: ClassVar[bool] = False

    def __init__(
        self, task: Task, *, sigmas: float = 2.0, align: bool = True, **common: Unpack[Common]
    ) -> None:
        super().__init__(task, **common)
        self.sigmas, self.align = sigmas, align
        self.mean, self.variance = Running(momentum=self.momentum), Running(momentum=self.momentum)

    def teach(self, seen: Seen, ctx: StepContext) -> Lesson:
        """Return hard targets, weighted by a Gaussian that is cut off above its mean."""
        score = self.leveled(seen, ctx).score
        mean, variance = self.usual(score.reshape(-1), seen.trust.reshape(-1), chance(seen.teacher), ctx)
        below = (mean - score).clamp_min(0)
        weight = torch.exp(-below.square() * self.sigmas**2 / (2 * variance).clamp_min(TINY))
        return Lesson(seen.teacher.hard(), weight, mean)

    def leveled(self, seen: Seen, ctx: StepContext) -> Posteriors:
        """Return the teacher's posteriors aligned to ``mix`` or, where classes exclude each other, to equal shares."""
        said = seen.teacher
        if not self.align or (said.independent and self.mix is None):
            return said
        to = torch.full_like(said.probs[0], chance(said)) if self.mix is None else self.mix
        return self.alignment(said, to, seen.trust, ctx)

    def usual(self, score: Tensor, trust: Tensor, start: float, ctx: StepContext) -> tuple[Tensor, Tensor]:
        """Return running mean and (unbiased) variance of confidence over all processes, this batch counted in."""
        total, count = sums(score, trust, ctx)
        spread, _ = sums((score - total / count.clamp_min(1)).square(), trust, ctx)
        return self.mean.update(total, count, start), self.variance.update(spread, count - 1, 1.0)
