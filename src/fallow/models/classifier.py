"""What every cheap rung produces: linear heads on frozen vectors, several of which may vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fallow.errors import RunError
from fallow.models.embed import Space
from fallow.models.feature_map import FeatureMap
from fallow.models.linear import LinearHead
from fallow.types import JsonObject

Tensors = dict[str, NDArray[np.generic]]
Pool = Literal["features", "probs"]


@dataclass(frozen=True)
class Branch:
    """One embedding with its head.

    Attributes:
        space: Which vectors it reads.
        feature_map: Normalization of the vectors.
        head: Linear head on the normalized vectors; its temperature divides its logits.
        pool: How an image's views become one answer. ``features``: vectors are averaged, then mapped, then
            judged. ``probs``: each view is judged and the log-probabilities are averaged.
    """

    space: Space
    feature_map: FeatureMap
    head: LinearHead
    pool: Pool = "features"

    def log_probs(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return log-probabilities (n, c) of vectors (n, v, d)."""
        n, views, dim = features.shape
        if views == 1:  # nothing to average: of 100,000 images the mean would be a copy of half a gigabyte
            return self._judge(features[:, 0])
        if self.pool == "features":
            return self._judge(features.mean(1, dtype=np.float32))
        judged = self._judge(features.reshape(n * views, dim)).reshape(n, views, -1)
        return np.asarray(judged.mean(1), np.float32)

    def _judge(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return log_softmax(self.head.logits(self.feature_map.transform(vectors)))


class EmbeddingClassifier:
    """A vote of branches: softmax(sum of weights x log-probabilities / temperature).

    Args:
        branches: At least one; all with the same number of classes.
        classes: Names of the classes, in the order of the heads' outputs.
        temperature: Divides the averaged log-probabilities: calibration.
        branch_weights: Weight of each branch; made to sum to 1. Default: equal.

    Raises:
        RunError: No branch, or numbers of classes or weights that do not match.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        classes: Sequence[str],
        temperature: float = 1.0,
        branch_weights: Sequence[float] | None = None,
    ) -> None:
        self.branches = tuple(branches)
        self.classes = tuple(classes)
        self.temperature = float(temperature)
        weights = np.asarray(branch_weights or [1.0] * len(self.branches), dtype=np.float64)
        if not self.branches or len(weights) != len(self.branches):
            raise RunError(
                f"a classifier of {len(self.branches)} branches cannot have {len(weights)} branch weights"
            )
        if (
            weights.min() < 0
            or not np.isfinite(weights).all()
            or weights.sum() <= 0
            or not self.temperature > 0
        ):
            raise RunError(
                "branch weights must be zero or more, not all zero, and the temperature above zero"
            )
        for branch in self.branches:
            outputs = len(branch.head.bias)
            if outputs != len(self.classes):
                raise RunError(f"a head with {outputs} outputs cannot tell {len(self.classes)} classes apart")
        self.branch_weights: tuple[float, ...] = tuple(float(w) for w in weights / weights.sum())

    @property
    def spaces(self) -> tuple[Space, ...]:
        """The different spaces whose vectors `predict_probs` needs."""
        return tuple(dict.fromkeys(branch.space for branch in self.branches))

    def predict_probs(self, features: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return calibrated class probabilities (n, c) float32.

        Args:
            features: Space key -> vectors (n, v, d), as `Embedder.embed` gives them.

        Raises:
            RunError: The vectors of a space are not there.
        """
        return np.exp(log_softmax(self.logits(features)))

    def logits(self, features: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return what the softmax is taken of: averaged log-probabilities / temperature, (n, c) float32."""
        missing = [space.key for space in self.spaces if space.key not in features]
        if missing:
            raise RunError(f"the vectors of {', '.join(missing)} are needed to predict, and were not given")
        total: NDArray[np.float32] | None = None
        for branch, weight in zip(self.branches, self.branch_weights, strict=True):
            part = np.float32(weight) * branch.log_probs(features[branch.space.key])
            total = part if total is None else total + part
        assert total is not None
        return total / np.float32(self.temperature)

    def tempered(self, temperature: float) -> EmbeddingClassifier:
        """Return the same classifier with its temperature multiplied by ``temperature``: calibration; no guess changes."""
        return EmbeddingClassifier(
            self.branches, self.classes, self.temperature * temperature, self.branch_weights
        )

    def state(self) -> tuple[Tensors, JsonObject]:
        """Return all arrays by name, and the rest as JSON."""
        tensors: Tensors = {}
        described: list[Any] = []
        for number, branch in enumerate(self.branches):
            for part, state in (("feature_map", branch.feature_map.state()), ("head", branch.head.state())):
                tensors |= {f"branches.{number}.{part}.{name}": array for name, array in state.items()}
            described.append(
                {
                    "space": asdict(branch.space),
                    "pool": branch.pool,
                    "weight": self.branch_weights[number],
                }
            )
        meta: JsonObject = {
            "kind": "embedding_classifier",
            "classes": list(self.classes),
            "temperature": self.temperature,
            "branches": described,
        }
        return tensors, meta

    @classmethod
    def from_state(cls, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> EmbeddingClassifier:
        """Rebuild a classifier from `state`.

        Raises:
            RunError: ``meta`` is of another kind, or an array is missing.
        """
        if meta.get("kind") != "embedding_classifier":
            raise RunError(f"a model of kind '{meta.get('kind')}' is not an embedding classifier")
        try:
            branches = [
                _branch(tensors, described, f"branches.{number}.")
                for number, described in enumerate(meta["branches"])
            ]
            weights = [float(described["weight"]) for described in meta["branches"]]
            return cls(branches, meta["classes"], meta["temperature"], weights)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"the saved model is incomplete ({error}): save it again") from error


def _branch(tensors: Mapping[str, NDArray[Any]], described: Mapping[str, Any], prefix: str) -> Branch:
    def part(name: str) -> dict[str, NDArray[Any]]:
        start = f"{prefix}{name}."
        return {key.removeprefix(start): array for key, array in tensors.items() if key.startswith(start)}

    return Branch(
        Space(**described["space"]),
        FeatureMap.from_state(part("feature_map")),
        LinearHead.from_state(part("head")),
        described["pool"],
    )


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log-probabilities along the last axis."""
    shifted: NDArray[np.float32] = logits - logits.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted
