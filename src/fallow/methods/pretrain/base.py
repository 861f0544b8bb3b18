"""The interface of methods that learn from images alone: views by name, a slow teacher, what leaves at the end."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from fallow.augment import SMALL_SIDE, Policy, paper_views
from fallow.errors import ConfigError
from fallow.methods.base import Batch, Method, Step, StepContext, Views, look_back
from fallow.models import TokenInfo
from fallow.tasks import FeatureInfo

_LONG = 10_000
"""Steps from which a run is of the length of the papers' experiments, whose shortest (MoCo's on CIFAR-10) take 20,000."""
T = TypeVar("T", int, float, str, bool)


class PretrainContext(StepContext, Protocol):
    """What a pretraining method may ask of the loop beside what all methods may.

    Attributes:
        rank: Number of this process, from 0.
    """

    rank: int

    def teacher_features(self, *images: Tensor) -> tuple[Any, ...]:
        """Run the backbone of the moving average, without gradient, in the mode that `Teacher.norm` says."""

    def teacher_method(self) -> Any:
        """Return the method as the moving average has it, with its projector, likewise; buffers are the student's own."""

    def tokens(self, images: Tensor, *, of_teacher: bool = False, **hiding: Tensor | None) -> Tensor:
        """Return the tokens of images (n, prefix + k, dim), some of them hidden; see `fallow.models.encode_tokens`."""

    def pooled(self, tokens: Tensor, *, of_teacher: bool = False) -> Tensor:
        """Return the features (n, dim) that the network makes of such tokens: what leaves is good for that."""


@dataclass(frozen=True)
class Teacher:
    """How the moving average of network and method follows, and how it answers.

    The decay rises to ``end`` by half a cosine (Grill et al. 2020, arXiv 2006.07733, sec. 3.2), from what the loop's settings
    say (``optimization.ema_decay``); `first` is what they say where nobody asks for another.

    Running statistics of BatchNorm start at 0 and 1, which fits no network: a teacher that uses them follows fast at first, its
    decay is at most (1 + step) / (10 + step).

    Attributes:
        decay: Share of the average that stays at the first step in the paper's long runs.
        end: The same at the last step; None: it stays as it was.
        norm: Whether its BatchNorm uses the statistics of the ``batch`` or its ``running`` ones. Dropout and stochastic depth
            are off in both.
    """

    decay: float = 0.996
    end: float | None = 1.0
    norm: Literal["batch", "running"] = "batch"

    def first(self, total_steps: int) -> float:
        """Return the decay at the first step of a run of so many: ``decay``, or less in a short run.

        BYOL's 0.996 looks back over 250 of 300,000 steps. In a run of some hundred that would be the random first weights all
        the way, so that a short run's teacher looks back over a twentieth of its steps: at most 1 - 20 / steps, and at least 0.9.
        """
        return look_back(total_steps, self.decay)

    def decay_at(self, step: int, total_steps: int, first: float) -> float:
        """Return the decay of a step, from 0, of a run of so many that begins with ``first``."""
        end = first if self.end is None else max(first, self.end)
        share = min(step / max(total_steps - 1, 1), 1.0)
        decay = end - (end - first) * (math.cos(math.pi * share) + 1) / 2
        return min(decay, (1 + step) / (10 + step)) if self.norm == "running" else decay


class PretrainMethod(Method):
    """A method that learns from images alone; it knows no task.

    Every hyperparameter is a keyword of the constructor with the paper's value as its default; None stands for a width that
    follows the backbone's, in the paper's proportion. Losses are computed in float32, whatever the precision of the network,
    and are those of the whole batch over all processes.

    In `Step.health` a method may return ``chance_loss`` (what the loss is when nothing is learned), ``embeddings`` and ``partners``
    ((n, d) each: what the loss is computed from, two views of the same images), and ``features`` (n, f) of the backbone.

    Attributes:
        views: Names of the views; see `augmentations`.
        recipe: Which paper's views, see `fallow.augment.paper_views`.
        teacher: How the moving average follows, for methods that have one; None: the settings of the loop say whether one is
            kept, and the method does not see it.
        leaves: Which weights the loop leaves: those that are trained, or their moving average. It matters with ``teacher`` only.
        least_batch: Images a step, over all processes, below which the paper's method is known to lose; for advice.
        directions: Whether the loss compares directions of embeddings, whatever their lengths and mean.
        chance_is_final: Whether a loss that is at its chance value after half of the run leaves no hope; methods with prototypes are
            near it for long while they learn.
        needs_tokens: Whether it needs a vision transformer.
        several_sizes: Whether its views have several sizes.
        settled: Options that nobody asked for and that follow from the run, by name: value and rule, from `build` on.
        asks: Whose vectors of the images it learns from, handed to `build` as ``known``: those of the network that learning starts
            from (``start``), of a frozen one that may be another (``teacher``), or of none.
    """

    views: Views = Views(labeled=(), unlabeled=("first", "second"))
    recipe: str = "simclr"
    teacher: Teacher | None = None
    leaves: ClassVar[Literal["student", "teacher"]] = "student"
    least_batch: ClassVar[int] = 2
    directions: ClassVar[bool] = True
    chance_is_final: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    several_sizes: ClassVar[bool] = False
    asks: ClassVar[Literal["", "start", "teacher"]] = ""

    settled: dict[str, tuple[int | float | str | bool, str]]
    n_images: int
    n_classes: int
    total_steps: int
    batch_size: int
    tokens: TokenInfo | None = None
    size: int | None = None
    known: Tensor | None = None

    @property
    def short(self) -> bool:
        """Whether the run is far shorter than those that the papers' values are for; to be asked for in `make` and after."""
        return self.total_steps < _LONG

    @property
    def small(self) -> bool:
        """Whether the images are as small as those of CIFAR-10, for which papers have other values; likewise."""
        return self.size is not None and self.size <= SMALL_SIDE

    def settle(self, name: str, asked: T | None, value: T, rule: str) -> T:
        """Return the value of an option: what was asked for, else ``value``, which is noted in ``settled`` with its rule."""
        if asked is not None:
            return asked
        self.settled[name] = (value, rule)
        return value

    def augmentations(
        self, size: int, *, gray: bool = False, flips: Sequence[str] = ("hflip",)
    ) -> dict[str, Policy]:
        """Return what is done to an image, by name of the view: `Feed.changes`.

        Args:
            size: Side in pixels of the images that the network is trained at.
            gray: The images are gray.
            flips: Flips, half of the time each.
        """
        policies = paper_views(self.recipe, flips=flips, gray=gray, size=(size, size))
        return {"first": policies[0], "second": policies[1]}

    def build(
        self,
        feature_info: FeatureInfo,
        n_images: int,
        n_classes: int,
        total_steps: int,
        batch_size: int = 256,
        tokens: TokenInfo | None = None,
        size: int | None = None,
        known: Tensor | None = None,
    ) -> None:
        """Make projectors, predictors, queues, prototypes.

        Args:
            feature_info: What the backbone hands over.
            n_images: Images that are learned from.
            n_classes: Number of classes, for methods that use labels where there are any; else 0.
            total_steps: Steps planned.
            batch_size: Images a step, over all processes.
            size: Side in pixels of the images; None: large enough for anything.
            tokens: How the network cuts images into tokens, from `fallow.models.token_info`; None: it does not.
            known: What a frozen network says of each image as it is, (n_images, d) float, for methods that ask for it (`asks`).

        Raises:
            ConfigError: The method cannot learn from so few images, or with this network, or misses what it asks for.
        """
        name = self.info.name
        if n_images < 2 or batch_size < 2:
            few = f"{n_images} image{'s' * (n_images != 1)} in batches of {batch_size}"
            raise ConfigError(f"{name} compares images with each other and has {few}: give it two at least")
        if self.needs_tokens and tokens is None:
            raise ConfigError(
                f"{name} hides parts of an image from a vision transformer, and this network is none: take a timm ViT, such "
                "as vit_small_patch16_224, or another method"
            )
        if self.asks and (known is None or len(known) != n_images):
            raise ConfigError(
                f"{name} learns from what a frozen network says of the images: give a vector of each of the {n_images} (known)"
            )
        self.n_images, self.n_classes, self.total_steps = n_images, n_classes, total_steps
        self.batch_size, self.tokens, self.size = batch_size, tokens, size
        self.known = known if self.asks else None
        self.settled = {}
        self.make(feature_info.dim)
        self.known = None  # what is needed of it later is a buffer

    @abstractmethod
    def make(self, dim: int) -> None:
        """Make the parts for features of so many channels; ``n_images``, ``batch_size`` and the like are set."""

    @abstractmethod
    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss of one batch."""

    def steady(self) -> tuple[nn.Module, float] | None:
        """Return a part whose learning rate does not fall, and it as a multiple of the others' highest; None: all are alike."""
        return None

    def epoch(self, step: int) -> int:
        """Return the number of the pass over the images that a step begins in, from 0."""
        return step * self.batch_size // self.n_images

    def memory(self) -> list[Tensor]:
        """Return the buffers that are no statistics of a norm: queues, centers, prototypes. They are not averaged."""
        norms = [part for part in self.modules() if isinstance(part, torch.nn.modules.batchnorm._NormBase)]
        statistics = {id(buffer) for norm in norms for buffer in norm.buffers()}
        return [buffer for buffer in self.buffers() if id(buffer) not in statistics]
