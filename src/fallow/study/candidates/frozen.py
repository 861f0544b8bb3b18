"""The candidate of every rung that works on frozen vectors."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from fallow.export import export_onnx
from fallow.models import Backbone, EmbeddingClassifier, Space
from fallow.study.bank import SpaceBank
from fallow.study.rung import Candidate, ImageSet
from fallow.tasks import Posteriors
from fallow.types import JsonObject


class FrozenCandidate(Candidate):
    """Linear heads on the vectors of networks that stand still.

    Attributes:
        classifier: Heads, feature maps and temperature.
        bank: Where vectors come from.
    """

    def __init__(
        self, classifier: EmbeddingClassifier, bank: SpaceBank, mix: NDArray[np.float64] | None = None
    ) -> None:
        self.classifier, self.bank, self._mix = classifier, bank, mix

    @property
    def mix(self) -> NDArray[np.float64] | None:
        """Estimated share of each class in the pool, (classes,); None for labels only."""
        return self._mix

    def probs(self, images: ImageSet, what: str = "images") -> NDArray[np.float32]:
        """Return calibrated class probabilities, (n, classes)."""
        spaces = {branch.space.key: branch.space for branch in self.classifier.branches}
        # One vector per image: averaging the views first is what a branch with pool="features" does anyway.
        features = {key: self.vectors(space, images, what)[:, None] for key, space in spaces.items()}
        return self.classifier.predict_probs(features)

    def vectors(self, space: Space, images: ImageSet, what: str) -> NDArray[np.float32]:
        """Return the vectors of ``images`` averaged over the views of ``space``, (n, dim)."""
        return self.bank.pooled(space, images, what)

    def predict(self, images: ImageSet) -> Posteriors:
        """Return calibrated posteriors, one unit per image."""
        probs = torch.from_numpy(self.probs(images))
        return Posteriors("categorical", probs, torch.arange(len(probs)))

    def calibrated(self, temperature: float) -> Self:
        """Return the same heads with their temperature multiplied."""
        made = copy.copy(self)
        made.classifier = self.classifier.tempered(temperature)
        return made

    def state(self) -> tuple[dict[str, NDArray[np.generic]], JsonObject]:
        """Return arrays and plain values."""
        tensors, meta = self.classifier.state()
        if self._mix is not None:
            tensors = {**tensors, "mix": self._mix}
        return tensors, meta

    @classmethod
    def from_state(
        cls, tensors: dict[str, NDArray[np.generic]], meta: JsonObject, bank: SpaceBank
    ) -> FrozenCandidate:
        """Rebuild a candidate from `state`."""
        own = {k: v for k, v in tensors.items() if k != "mix"}
        mix = np.asarray(tensors["mix"], np.float64) if "mix" in tensors else None
        return cls(EmbeddingClassifier.from_state(own, meta), bank, mix)

    def backbones(self) -> dict[str, Backbone]:
        """Return the backbones that the branches need, by name."""
        return {space.backbone_name: self.bank.network(space) for space in self.classifier.spaces}

    def export_graph(self, path: Path) -> None:
        """Write one ONNX file that takes the original uint8 image."""
        export_onnx(self.classifier, self.backbones(), path)
