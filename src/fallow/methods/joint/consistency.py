"""What joint methods have in common: two views of an unlabeled image, a teacher on one, a student on the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias, TypedDict

import torch
from torch import Tensor

from fallow.methods.base import Batch, JointMethod, Step, StepContext, TeacherKind, global_mean
from fallow.methods.joint.targets import Alignment, alike, decided
from fallow.tasks import Divergence, Posteriors, Task, View

Guide: TypeAlias = Callable[[Tensor], Posteriors]
"""What somebody else says of unlabeled images, by their position in the pool, (m,): posteriors of the task's units."""


class Common(TypedDict, total=False):
    """Options that every method has; see `Consistency`."""

    mix: Tensor | None
    follows: TeacherKind
    unlabeled_weight: float | None
    momentum: float
    guide: Guide | None


@dataclass(frozen=True)
class Seen:
    """What the networks say of a batch.

    Attributes:
        batch: The batch.
        labeled: The student's raw outputs for the labeled images.
        strong: The student's raw outputs for the strong views.
        supervised: Supervised loss of each labeled unit.
        teacher: What the teacher says of the weak views, carried into the strong ones; no gradient.
        trust: How far each unlabeled unit counts, the shape of ``teacher.score``: 0 where it left the picture or where
            its image belongs to no class.
    """

    batch: Batch
    labeled: Any
    strong: Any
    supervised: Tensor
    teacher: Posteriors
    trust: Tensor


@dataclass(frozen=True)
class Lesson:
    """What a method makes of what was seen.

    Attributes:
        target: What the student should say of the strong views.
        weight: How much each unit counts, the shape of ``target.score``; ``trust`` is multiplied onto it.
        threshold: Confidence that is asked for, for the log: a number or one a class.
        losses: Further losses by name, weighted, as `global_mean` scales them.
    """

    target: Posteriors
    weight: Tensor
    threshold: Tensor | float = 0.0
    losses: Mapping[str, Tensor] = field(default_factory=dict)


def look(task: Task, batch: Batch, ctx: StepContext) -> Seen:
    """Run student and teacher on a batch: labeled and strong images in one pass of the student."""
    labeled, strong = ctx.model(batch.labeled[0], batch.unlabeled[1])
    (said,) = ctx.teacher(batch.unlabeled[0])
    weak_view, strong_view = batch.unlabeled_views
    teacher = task.posteriors(said, weak_view).warp(weak_view, strong_view)
    supervised = task.losses(labeled, batch.targets)
    return Seen(batch, labeled, strong, supervised, teacher, trusted(teacher, batch))


def trusted(posteriors: Posteriors, batch: Batch) -> Tensor:
    """Return how far each unlabeled unit counts, the shape of ``score``."""
    trust = posteriors.weight
    if batch.weights is None:
        return trust
    of_unit = batch.weights.to(trust)[posteriors.image_index]
    return trust * (of_unit[:, None] if posteriors.independent else of_unit)


class Consistency(JointMethod):
    """A joint method says in `teach` how a teacher's posteriors become targets and weights; the rest is here.

    Args:
        task: What a label is.
        mix: Class shares of the pool, (classes,), that posteriors are aligned to; None: as the paper has it.
        follows: Who the teacher is: the moving average of the student (``ema``), steadier in short runs, or the student
            itself (``self``), as in the papers except Mean Teacher's.
        unlabeled_weight: Weight of the unlabeled images' loss; None: the paper's.
        momentum: Of running statistics; 0.999 in the papers, whose runs have a million steps. A run of some hundred
            steps wants 0.9 to 0.99.
        guide: A second opinion on the pool that is there before training, such as label propagation's over a graph of
            frozen features; in the geometry of the untouched image. An unlabeled unit counts only where guide and teacher
            decide alike, as in tri-training (Zhou and Li 2005, IEEE TKDE 17(11)), where two that agree teach a third: a
            network does not believe a mistake of its own that nobody shares. None: all count, as in the papers.
    """

    agreement: ClassVar[Divergence] = "ce"
    papers_weight: ClassVar[float] = 1.0
    aligns: ClassVar[bool] = True
    """Posteriors come to `teach` aligned to ``mix``, where that is given; False: the method aligns by itself."""

    def __init__(
        self,
        task: Task,
        *,
        mix: Tensor | None = None,
        follows: TeacherKind = "ema",
        unlabeled_weight: float | None = None,
        momentum: float = 0.999,
        guide: Guide | None = None,
    ) -> None:
        super().__init__(task, mix=mix)
        self.follows, self.momentum = follows, momentum
        self.unlabeled_weight = self.papers_weight if unlabeled_weight is None else unlabeled_weight
        self._guide = guide
        self.alignment = Alignment(len(task.classes), momentum)

    @abstractmethod
    def teach(self, seen: Seen, ctx: StepContext) -> Lesson:
        """Return targets and weights for the strong views."""

    def supervise(self, seen: Seen, ctx: StepContext) -> Tensor:
        """Return the supervised loss."""
        return global_mean(seen.supervised, torch.ones_like(seen.supervised), ctx)

    def ramp(self, ctx: StepContext) -> float:
        """Return the share of ``unlabeled_weight`` that counts at this step."""
        return 1.0

    def guided(self, seen: Seen) -> Seen:
        """Return what was seen, trusted only where the guide decides as the teacher does."""
        if self._guide is None:
            return seen
        said = self._guide(seen.batch.index).warp(View(), seen.batch.unlabeled_views[1])
        return replace(seen, trust=seen.trust * alike(seen.teacher, said))

    def step(self, batch: Batch, ctx: StepContext) -> Step:
        """Return supervised loss + weight x ramp x mean of the weighted divergences from the targets."""
        seen = self.guided(look(self.task, batch, ctx))
        if self.mix is not None and self.aligns:
            seen = replace(seen, teacher=self.alignment(seen.teacher, self.mix, seen.trust, ctx))
        lesson = self.teach(seen, ctx)
        weight = lesson.weight.detach() * seen.trust
        supervised = self.supervise(seen, ctx)
        apart = self.task.divergence(seen.strong, lesson.target, self.agreement)
        unsupervised = global_mean(apart, weight, ctx)
        loss = supervised + self.unlabeled_weight * self.ramp(ctx) * unsupervised
        for further in lesson.losses.values():
            loss = loss + further
        parts = {"supervised_loss": supervised, "unsupervised_loss": unsupervised, **lesson.losses}
        asked = lesson.threshold
        parts["threshold"] = asked if isinstance(asked, Tensor) else loss.new_full((), asked)
        logs = {name: part.detach() for name, part in parts.items()}
        return Step(loss, logs, health(seen, weight))


def health(seen: Seen, weight: Tensor) -> dict[str, Tensor]:
    """Return how far the pool is used, in all and by decided class, and how often each class was decided for.

    They describe this process's part of the batch and stay on the device.
    """
    counted = (seen.trust > 0).to(weight.dtype)
    found = decided(seen.teacher, counted)
    used = decided(seen.teacher, weight) / found.clamp_min(1)
    return {"utilization": weight.mean(), "class_utilization": used, "pseudo_classes": found}
