"""The interface of everything that learns from unlabeled images.

A method knows no task, no device and no file. A joint method says how a teacher's posteriors become targets and
weights for a student; a pretraining method (`fallow.methods.pretrain`) knows no task at all.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from torch import Tensor, nn

from fallow.tasks import FeatureInfo, Task, View

Strength: TypeAlias = str
"""Name of a way to change images: ``none``, ``weak`` and ``strong`` in joint methods; a pretraining method has names of its own,
such as ``first`` and ``second``, ``global`` and ``local``."""
Family = Literal["supervised", "graph", "joint", "pretrain"]
TeacherKind = Literal["self", "ema"]
_LOOK_BACK = 20
"""Averages look back over one in so many of the steps."""


@dataclass(frozen=True)
class MethodInfo:
    """How a method describes itself: help, docs and chooser read this and nothing else.

    Attributes:
        name: Name on the command line.
        title: A few words.
        family: ``supervised`` (labels only), ``graph`` (frozen features), ``joint`` (labels and pool together), ``pretrain`` (no labels).
        paper: Authors, year and arXiv number or venue.
        needs: What must be there (``labels``, ``unlabeled``, ``weights``, ``gpu``).
        suits: When it is a good choice, one sentence.
        cost: What it costs, relative to one epoch of supervised training on the same images; 0 for none.
    """

    name: str
    title: str
    family: Family
    paper: str
    needs: tuple[str, ...]
    suits: str
    cost: float


@dataclass(frozen=True)
class Views:
    """Which augmentations each batch gets: one entry per view asked for. The same name twice is two draws."""

    labeled: tuple[Strength, ...] = ("weak",)
    unlabeled: tuple[Strength, ...] = ("weak", "strong")


@dataclass(frozen=True)
class Batch:
    """What the loop hands to a method.

    Attributes:
        index: Long (images,): position of each unlabeled image in the pool; always there, so that a method may keep
            per-image state.
        labeled: One image tensor (n, c, h, w) per labeled view.
        unlabeled: One image tensor (m, c, h, w) per unlabeled view.
        targets: Targets of the labeled images as the task wants them.
        labeled_views: Geometry of each labeled view.
        unlabeled_views: Geometry of each unlabeled view.
        weights: How far each unlabeled image is trusted, (m,) in 0..1; None trusts all. Images of no class get 0.
    """

    index: Tensor
    labeled: tuple[Tensor, ...] = ()
    unlabeled: tuple[Tensor, ...] = ()
    targets: Any = None
    labeled_views: tuple[View, ...] = ()
    unlabeled_views: tuple[View, ...] = ()
    weights: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """What one step gives back.

    Attributes:
        loss: Scalar to minimize.
        logs: Numbers for the log.
        health: Numbers the health checks read (``utilization``, ``chance_loss``, ``embedding_std`` ...).
    """

    loss: Tensor
    logs: Mapping[str, float | Tensor] = field(default_factory=dict)
    health: Mapping[str, float | Tensor] = field(default_factory=dict)


class StepContext(Protocol):
    """What a method may ask of the loop; the same in one process and in many.

    Attributes:
        step: Number of this step, from 0.
        total_steps: Steps planned in all.
        world_size: Processes that train together.
    """

    step: int
    total_steps: int
    world_size: int

    def features(self, *images: Tensor) -> tuple[Any, ...]:
        """Run the student's backbone on all of these in one pass, so that BatchNorm sees them together.

        Images of several sizes take one pass a size. Whoever wants views apart asks for them one by one.

        Args:
            images: Tensors (n_i, c, h, w); any number of them.

        Returns:
            The features of each.
        """

    def head(self, features: Any) -> Any:
        """Run the student's head: raw outputs as the task understands them."""

    def model(self, *images: Tensor) -> tuple[Any, ...]:
        """Run backbone and head of the student in one pass; the raw outputs of each tensor."""

    def teacher(self, *images: Tensor) -> tuple[Any, ...]:
        """Run the teacher that the method asked for, in evaluation mode and without gradient."""

    def reduce(self, value: Tensor) -> Tensor:
        """Return the sum of ``value`` over all processes, without gradient."""

    def gather(self, value: Tensor) -> Tensor:
        """Return ``value`` of all processes, concatenated along the first dimension, with gradient."""


def options_of(kind: type[Method]) -> frozenset[str]:
    """Return the names of a method's hyperparameters: the keywords of its constructor, less what only a run can hand in."""
    named = {
        parameter.name
        for one in kind.__mro__
        if issubclass(one, Method)
        for parameter in inspect.signature(one.__init__).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return frozenset(named - {"mix", "guide"})


def global_mean(values: Tensor, weights: Tensor, ctx: StepContext) -> Tensor:
    """Return the sum of ``weights * values`` over the number of values in all processes.

    Processes average their gradients, so that each process's part is scaled up by their number: N processes and one
    process on the same images give the same gradient, also where they hold different numbers of units.

    Args:
        values: Loss of each unit.
        weights: Weight of each unit, the same shape; units of weight 0 count in the denominator.
        ctx: The loop.
    """
    count = ctx.reduce(values.new_full((), float(values.numel())))
    return ctx.world_size * (weights * values).sum() / count.clamp_min(1)


def look_back(steps: int, most: float = 0.999) -> float:
    """Return the decay of running averages in a run of so many steps: they look back over a twentieth of it.

    Papers have 0.999, for a million steps: in a run of some hundred that would hardly leave its first value.

    Args:
        steps: Steps of the run.
        most: The decay is no larger, however many they are.
    """
    return min(most, max(0.9, 1 - _LOOK_BACK / max(steps, 1)))


class Method(nn.Module, ABC):
    """Something that turns a batch into a loss."""

    info: ClassVar[MethodInfo]
    views: Views = Views()

    def build(self, feature_info: FeatureInfo, n_images: int, n_classes: int, total_steps: int) -> None:
        """Make projectors, predictors, queues, prototypes: whatever the method keeps. Buffers belong to its state."""
        return

    @abstractmethod
    def step(self, batch: Batch, ctx: Any) -> Step:
        """Return the loss of one batch.

        Args:
            batch: Images, targets and views.
            ctx: The loop, as a `StepContext`; of pretraining methods a `fallow.methods.pretrain.PretrainContext`.
        """

    def after_step(self, ctx: StepContext) -> None:
        """Update what follows slowly (EMA, queue, thresholds)."""
        return


class JointMethod(Method):
    """A method that trains on labels and pool together. It sees the task only through posteriors and divergences.

    Every hyperparameter is a keyword of the constructor with the paper's value as its default.

    Args:
        task: What a label is.
        mix: Class shares of the pool, (classes,), that posteriors are aligned to; None: as the paper has it.

    Attributes:
        follows: Who the teacher is: the student itself (``self``) or its moving average (``ema``).
    """

    follows: TeacherKind = "ema"
    mix: Tensor | None

    def __init__(self, task: Task, *, mix: Tensor | None = None) -> None:
        super().__init__()
        self.task = task
        self.register_buffer("mix", mix)

    def prediction_head(self) -> nn.Module | None:
        """Return the head that predicts once training is over, in place of the student's own; None keeps that."""
        return None
