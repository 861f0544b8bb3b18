"""The interface of everything that learns from unlabeled images.

A method knows no task, no device and no file. A joint method says how a teacher's posteriors become targets and
weights for a student; a pretraining method knows no task at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from fallow.tasks import FeatureInfo, Task, View

Strength = Literal["none", "weak", "strong"]
Family = Literal["graph", "joint", "pretrain"]


@dataclass(frozen=True)
class MethodInfo:
    """How a method describes itself: help, docs and chooser read this and nothing else.

    Attributes:
        name: Name on the command line.
        title: A few words.
        family: ``graph`` (frozen features), ``joint`` (labels and pool together), ``pretrain`` (no labels).
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
    """Which augmentations each batch gets: one entry per view asked for."""

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
    """

    index: Tensor
    labeled: tuple[Tensor, ...] = ()
    unlabeled: tuple[Tensor, ...] = ()
    targets: Any = None
    labeled_views: tuple[View, ...] = ()
    unlabeled_views: tuple[View, ...] = ()


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
    """What a method may ask of the loop; the same in one process and in many."""

    step: int
    total_steps: int

    def model(self, images: Tensor) -> Any:
        """Run the student."""

    def teacher(self, images: Tensor) -> Any:
        """Run the teacher the method asked for (the model itself, its EMA or a frozen one), without gradient."""

    def reduce(self, value: Tensor) -> Tensor:
        """Return the sum of ``value`` over all processes, with gradient where the value has one."""

    def gather(self, value: Tensor) -> Tensor:
        """Return ``value`` of all processes, concatenated, with gradient."""


class Method(nn.Module, ABC):
    """Something that turns a batch into a loss."""

    info: ClassVar[MethodInfo]
    views: Views = Views()

    def build(self, feature_info: FeatureInfo, n_images: int, n_classes: int, total_steps: int) -> None:
        """Make projectors, predictors, queues, prototypes: whatever the method keeps. Buffers belong to its state."""
        return

    @abstractmethod
    def step(self, batch: Batch, ctx: StepContext) -> Step:
        """Return the loss of one batch."""

    def after_step(self, ctx: StepContext) -> None:
        """Update what follows slowly (EMA, queue, thresholds)."""
        return

    def on_epoch(self, ctx: StepContext) -> None:
        """Do a pass over the whole data, for methods that cluster it."""
        return


class JointMethod(Method):
    """A method that trains on labels and pool together. It sees the task only through posteriors and divergences."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
