"""FixMatch: the teacher's class is the target where the teacher is sure enough."""

from __future__ import annotations

from typing import ClassVar, Unpack

from fallow.methods.base import MethodInfo, StepContext
from fallow.methods.joint.consistency import Common, Consistency, Lesson, Seen
from fallow.tasks import Task


class FixMatch(Consistency):
    """FixMatch (Sohn et al. 2020, arXiv 2001.07685, eq. 4).

    Args:
        task: What a label is.
        threshold: Confidence from which a unit counts.
        common: See `Consistency`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="fixmatch",
        title="the teacher's class is the target where it is sure enough",
        family="joint",
        paper="Sohn et al. 2020, arXiv 2001.07685",
        needs=("labels", "unlabeled"),
        suits="a well-calibrated start and a long run; with few labels its fixed threshold passes too little",
        cost=1.5,
    )

    def __init__(self, task: Task, *, threshold: float = 0.95, **common: Unpack[Common]) -> None:
        super().__init__(task, **common)
        self.threshold = threshold

    def teach(self, seen: Seen, ctx: StepContext) -> Lesson:
        """Return hard targets above the threshold."""
        return Lesson(seen.teacher.hard(), seen.teacher.score >= self.threshold, self.threshold)
