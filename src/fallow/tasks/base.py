"""The interface between a kind of label and everything that trains on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from fallow.tasks.posteriors import Posteriors, View

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

Divergence = Literal["ce", "kl", "mse"]


@dataclass(frozen=True)
class FeatureInfo:
    """What a backbone hands to a head.

    Attributes:
        dim: Channels of the feature.
        reduction: Input pixels per feature cell; 0 for pooled features.
    """

    dim: int
    reduction: int = 0


class Task(ABC):
    """What is a label? A task knows heads, losses, posteriors and metrics; it knows no method and no file.

    Losses and divergences come back *per unit* (the shape of `Posteriors.score`): the method weighs and reduces them,
    with a count that is global over all processes.
    """

    name: ClassVar[str]

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes

    @abstractmethod
    def head(self, feature_info: FeatureInfo) -> nn.Module:
        """Return a freshly initialized head for features as described."""

    @abstractmethod
    def losses(self, outputs: Any, targets: Any) -> Tensor:
        """Return the supervised loss of each unit, before any reduction."""

    @abstractmethod
    def labels(self, targets: Any) -> Posteriors:
        """Return targets as posteriors that are sure of them: the units of `losses`, in their order."""

    @abstractmethod
    def divergence(self, outputs: Any, posteriors: Posteriors, kind: Divergence) -> Tensor:
        """Return how far outputs are from given posteriors, per unit: cross-entropy, KL(p || q) or squared error."""

    @abstractmethod
    def posteriors(self, outputs: Any, view: View) -> Posteriors:
        """Turn raw outputs for one view of a batch into posteriors."""

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Return fresh metrics, the headline first. They take class probabilities and targets."""
