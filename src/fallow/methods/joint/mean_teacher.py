"""Mean Teacher: the student's posteriors stay near those of its own moving average."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch

from fallow.methods.base import MethodInfo, StepContext
from fallow.methods.joint.consistency import Common, Consistency, Lesson, Seen
from fallow.methods.joint.targets import smooth_ramp
from fallow.tasks import Divergence, Task


class MeanTeacher(Consistency):
    """Mean Teacher (Tarvainen and Valpola 2017, arXiv 1703.01780).

    Its full weight is 100 x labeled / all images in the paper: 8, the default here, for 4,000 labels of CIFAR-10. The
    student's view is the strong one, where the paper shows two weak ones; labeled images carry no consistency loss.

    Args:
        task: What a label is.
        ramp_up: Share of the run in which the weight rises to its full value (the paper: 40,000 of 180,000 steps).
        common: See `Consistency`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="mean_teacher",
        title="posteriors stay near those of the network's own moving average",
        family="joint",
        paper="Tarvainen and Valpola 2017, arXiv 1703.01780",
        needs=("labels", "unlabeled"),
        suits="many labels, or outputs without clear classes; gains least of all with few",
        cost=1.5,
    )
    agreement: ClassVar[Divergence] = "mse"
    papers_weight: ClassVar[float] = 8.0

    def __init__(self, task: Task, *, ramp_up: float = 0.22, **common: Unpack[Common]) -> None:
        super().__init__(task, **common)
        self.ramp_up = ramp_up

    def teach(self, seen: Seen, ctx: StepContext) -> Lesson:
        """Return the teacher's posteriors; all count the same."""
        return Lesson(seen.teacher, torch.ones_like(seen.trust))

    def ramp(self, ctx: StepContext) -> float:
        """Return exp(-5 (1 - x)^2), x the share of the ramp that is done."""
        return smooth_ramp(ctx.step / max(self.ramp_up * ctx.total_steps, 1e-9))
