"""One label per image, among two or more classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fallow.tasks.base import Divergence, FeatureInfo, Task
from fallow.tasks.posteriors import Posteriors, View

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class Classification(Task):
    """Single-label classification: a unit is an image; outputs are logits (images, classes)."""

    name: ClassVar[str] = "classification"

    def head(self, feature_info: FeatureInfo) -> nn.Module:
        """Return a linear layer from pooled features to logits."""
        return nn.Linear(feature_info.dim, len(self.classes))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of each image, (images,); targets are class indices or probabilities."""
        return functional.cross_entropy(outputs.float(), targets, reduction="none")

    def labels(self, targets: Tensor) -> Posteriors:
        """Return class indices as one-hot rows; targets that are probabilities stay as they are."""
        probs = targets if targets.is_floating_point() else functional.one_hot(targets, len(self.classes))
        return Posteriors("categorical", probs.float(), torch.arange(len(targets), device=targets.device))

    def divergence(self, outputs: Tensor, posteriors: Posteriors, kind: Divergence) -> Tensor:
        """Return the divergence of each image from its posterior, (images,)."""
        probs, log_q = posteriors.probs, torch.log_softmax(outputs.float(), 1)
        if kind == "ce":
            return -(probs * log_q).sum(1)
        if kind == "kl":
            return (torch.special.xlogy(probs, probs) - probs * log_q).sum(1)
        return (log_q.exp() - probs).square().mean(1)

    def posteriors(self, outputs: Tensor, view: View) -> Posteriors:
        """Return the softmax of the logits; a whole image needs no warp."""
        index = torch.arange(len(outputs), device=outputs.device)
        return Posteriors("categorical", torch.softmax(outputs.float(), 1), index)

    def metrics(self) -> MetricCollection:
        """Return accuracy (headline), balanced accuracy and per-class recall and precision."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassPrecision, MulticlassRecall

        n = len(self.classes)
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(n, average="micro"),
                "balanced_accuracy": MulticlassRecall(n, average="macro"),
                "recall": MulticlassRecall(n, average="none"),
                "precision": MulticlassPrecision(n, average="none"),
            }
        )


class Binary(Classification):
    """Two classes: classification with a name of its own, so that reports and cards can speak of it."""

    name: ClassVar[str] = "binary"

    def __init__(self, classes: tuple[str, ...]) -> None:
        if len(classes) != 2:
            raise ValueError(f"a binary task has two classes, not {len(classes)}")
        super().__init__(classes)


def classification_task(classes: tuple[str, ...]) -> Classification:
    """Return `Binary` for two classes and `Classification` for more."""
    return Binary(classes) if len(classes) == 2 else Classification(classes)
