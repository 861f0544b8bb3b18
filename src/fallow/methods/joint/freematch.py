"""FreeMatch: thresholds that follow the model's own confidence, in all and by class."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from fallow.methods.base import MethodInfo, StepContext
from fallow.methods.joint.consistency import Common, Consistency, Lesson, Seen
from fallow.methods.joint.targets import (
    TINY,
    Running,
    by_class,
    chance,
    decided,
    of_decision,
    outcome_table,
    outcomes,
    per_class,
    sums,
)
from fallow.tasks import Posteriors, Task


class FreeMatch(Consistency):
    """FreeMatch (Wang et al. 2023, arXiv 2205.07246, eq. 5 to 12).

    Args:
        task: What a label is.
        fairness_weight: Weight of the self-adaptive fairness loss; the paper takes 0.01 to 0.05 by data set. Its sign is
            the paper's: the cross-entropy of the batch's class shares against the running ones is made larger.
        lowest: No threshold is below this; the paper limits them on SVHN only, to 0.9.
        highest: No threshold is above this; 0.95 on SVHN.
        common: See `Consistency`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="freematch",
        title="thresholds that follow the teacher's own confidence, in all and by class",
        family="joint",
        paper="Wang et al. 2023, arXiv 2205.07246",
        needs=("labels", "unlabeled"),
        suits="very few labels and classes of about equal size; nothing to set by hand",
        cost=1.5,
    )

    def __init__(
        self,
        task: Task,
        *,
        fairness_weight: float = 0.01,
        lowest: float = 0.0,
        highest: float = 1.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(task, **common)
        self.fairness_weight, self.lowest, self.highest = fairness_weight, lowest, highest
        self.confidence = Running(momentum=self.momentum)
        self.shares = Running(len(task.classes), momentum=self.momentum)
        self.guesses = Running(len(task.classes), momentum=self.momentum)

    def teach(self, seen: Seen, ctx: StepContext) -> Lesson:
        """Return hard targets above each class's threshold, and the fairness loss."""
        said, trust = seen.teacher, seen.trust
        of_class = per_class(trust, said)
        confidence = self.confidence.update(
            *sums(said.score.reshape(-1), trust.reshape(-1), ctx), start=chance(said)
        )
        total, count = sums(said.probs, of_class, ctx)
        shares = outcome_table(self.shares.update(total, count, chance(said)), said)
        guesses = self.guesses.update(ctx.reduce(decided(said, trust)), count, chance(said))
        table = shares / shares.amax(1, keepdim=True).clamp_min(TINY) * confidence
        table = table.clamp(self.lowest, self.highest)
        sure = said.score >= of_decision(table, said)
        wanted = _sum_to_one(shares / outcome_table(guesses, said).clamp_min(TINY))
        losses = {}
        if self.fairness_weight:
            strong = self.task.posteriors(seen.strong, seen.batch.unlabeled_views[1])
            losses["fairness_loss"] = self.fairness_weight * fairness(strong, sure * trust, wanted, ctx)
        return Lesson(said.hard(), sure, by_class(table, said), losses)


def fairness(strong: Posteriors, weight: Tensor, wanted: Tensor, ctx: StepContext) -> Tensor:
    """Return the self-adaptive fairness loss (eq. 11): minus the cross-entropy of two normalized class shares.

    Args:
        strong: What the student says of the strong views, with gradient.
        weight: 1 where the teacher is sure, the shape of ``strong.score``.
        wanted: Running shares over running guesses, normalized, (problems, outcomes).
        ctx: The loop.

    Returns:
        A scalar. It is of the whole batch over all processes: their sums are gathered with gradient.
    """
    weight = weight[..., None] if strong.independent else weight[:, None, None]
    mass = (weight * outcomes(strong)).sum(0)
    chosen = (weight * outcomes(strong.hard())).sum(0).detach()
    mass, chosen = ctx.gather(torch.stack([mass, chosen])[None]).sum(0).unbind()
    # Classes that no sure unit was guessed to be have no share and no gradient; they are left out.
    there = chosen > 0
    share = _sum_to_one(torch.where(there, mass / chosen.clamp_min(TINY), 0))
    log_share = torch.where(there, share.clamp_min(TINY).log(), 0)
    return (wanted * log_share).sum(1).mean()


def _sum_to_one(table: Tensor) -> Tensor:
    return table / table.sum(1, keepdim=True).clamp_min(TINY)
