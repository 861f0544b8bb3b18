"""Toy tasks of every kind of posterior: what each joint method must run on without knowing it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MetricCollection

from fallow.tasks import Classification, Divergence, FeatureInfo, Posteriors, Task, View


class ToyMultiLabel(Task):
    """Three yes-or-no labels per image; outputs are logits (images, 3)."""

    name = "toy-multilabel"

    def head(self, feature_info: FeatureInfo) -> nn.Module:
        return nn.Linear(feature_info.dim, len(self.classes))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")

    def labels(self, targets: Tensor) -> Posteriors:
        return Posteriors("bernoulli", targets, torch.arange(len(targets)))

    def divergence(self, outputs: Tensor, posteriors: Posteriors, kind: Divergence) -> Tensor:
        if kind == "mse":
            return (torch.sigmoid(outputs) - posteriors.probs).square()
        loss = functional.binary_cross_entropy_with_logits(outputs, posteriors.probs, reduction="none")
        return loss - posteriors.entropy if kind == "kl" else loss

    def posteriors(self, outputs: Tensor, view: View) -> Posteriors:
        return Posteriors("bernoulli", torch.sigmoid(outputs), torch.arange(len(outputs)))

    def metrics(self) -> MetricCollection:
        return MetricCollection({})

    def targets(self, n: int) -> Tensor:
        return (torch.rand(n, len(self.classes)) > 0.5).float()


class ToyPixels(Task):
    """A class for each of 4 x 4 pixels; outputs are logits (images, classes, 4, 4)."""

    name = "toy-pixels"
    side = 4

    def head(self, feature_info: FeatureInfo) -> nn.Module:
        return nn.Sequential(
            nn.Linear(feature_info.dim, len(self.classes) * self.side**2),
            nn.Unflatten(1, (len(self.classes), self.side, self.side)),
        )

    @staticmethod
    def _flat(outputs: Tensor) -> Tensor:
        return outputs.permute(0, 2, 3, 1).reshape(-1, outputs.shape[1])

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(self._flat(outputs), targets.reshape(-1), reduction="none")

    def labels(self, targets: Tensor) -> Posteriors:
        index = torch.arange(len(targets)).repeat_interleave(self.side**2)
        probs = functional.one_hot(targets.reshape(-1), len(self.classes)).float()
        return Posteriors("categorical", probs, index, grid=(self.side, self.side))

    def divergence(self, outputs: Tensor, posteriors: Posteriors, kind: Divergence) -> Tensor:
        return Classification(self.classes).divergence(self._flat(outputs), posteriors, kind)

    def posteriors(self, outputs: Tensor, view: View) -> Posteriors:
        probs = torch.softmax(self._flat(outputs), 1)
        index = torch.arange(len(outputs)).repeat_interleave(self.side**2)
        return Posteriors("categorical", probs, index, grid=(self.side, self.side))

    def metrics(self) -> MetricCollection:
        return MetricCollection({})

    def targets(self, n: int) -> Tensor:
        return torch.randint(0, len(self.classes), (n, self.side, self.side))


class ToyBoxes(Task):
    """Two boxes in even and three in odd images; outputs are a list of (boxes (k, 4), logits (k, classes))."""

    name = "toy-boxes"

    class Head(nn.Module):
        def __init__(self, dim: int, classes: int) -> None:
            super().__init__()
            self.logits = nn.Linear(dim, 3 * classes)
            self.classes = classes

        def forward(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
            corner = torch.tensor([[-0.8, -0.8, -0.2, -0.2], [0.1, 0.1, 0.6, 0.7], [-0.5, 0.2, 0.0, 0.9]])
            rows = self.logits(features).reshape(len(features), 3, self.classes)
            return [(corner[: 2 + i % 2], row[: 2 + i % 2]) for i, row in enumerate(rows)]

    def head(self, feature_info: FeatureInfo) -> nn.Module:
        return self.Head(feature_info.dim, len(self.classes))

    def losses(self, outputs: list[tuple[Tensor, Tensor]], targets: list[Tensor]) -> Tensor:
        logits = torch.cat([row for _, row in outputs])
        return functional.cross_entropy(logits, torch.cat(targets), reduction="none")

    def labels(self, targets: list[Tensor]) -> Posteriors:
        probs = functional.one_hot(torch.cat(targets), len(self.classes)).float()
        index = torch.cat([torch.full_like(row, i) for i, row in enumerate(targets)])
        return Posteriors("located", probs, index, boxes=torch.zeros(len(index), 4))

    def divergence(self, outputs: Any, posteriors: Posteriors, kind: Divergence) -> Tensor:
        logits = torch.cat([row for _, row in outputs])
        return Classification(self.classes).divergence(logits, posteriors, kind)

    def posteriors(self, outputs: list[tuple[Tensor, Tensor]], view: View) -> Posteriors:
        index = torch.cat([torch.full((len(b),), i, dtype=torch.long) for i, (b, _) in enumerate(outputs)])
        probs = torch.softmax(torch.cat([row for _, row in outputs]), 1)
        return Posteriors("located", probs, index, boxes=torch.cat([b for b, _ in outputs]))

    def metrics(self) -> MetricCollection:
        return MetricCollection({})

    def targets(self, n: int) -> list[Tensor]:
        return [torch.randint(0, len(self.classes), (2 + i % 2,)) for i in range(n)]


class ToyImages(Classification):
    """One class per image."""

    def targets(self, n: int) -> Tensor:
        return torch.randint(0, len(self.classes), (n,))


TOYS = (ToyImages, ToyMultiLabel, ToyPixels, ToyBoxes)
