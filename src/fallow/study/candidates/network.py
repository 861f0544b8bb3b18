"""The candidate of every rung that trains a network, and of every vote that such candidates take part in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fallow.errors import RunError
from fallow.models import Backbone, Branch, Embedder, EmbeddingClassifier, Space, rebuild_backbone
from fallow.study.bank import SpaceBank
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.rung import ImageSet
from fallow.types import JsonObject

_TENSORS = "backbone."
_FEW = 500
"""Up to so many images are looked at sooner than a graph is traced for them."""


class TrainedCandidate(FrozenCandidate):
    """Linear heads on networks of which some were trained in this run.

    It is registered with the bank, so that whoever has the classifier finds its networks. What a fold's candidate says
    of its few held-out images is computed at once, by torch, and so is what the final refit says of a few; many go through
    an exported graph, which takes seconds to trace and is faster then.

    Args:
        classifier: One branch per network, or more.
        bank: Where the vectors of all other networks come from.
        networks: The trained networks that the branches read, each with a name of its own.
        mix: Estimated share of each class in the pool, (classes,).
        final: True for the refit on all labels, which the user may get.

    Attributes:
        networks: The trained networks by name.
        final: Whether this is the refit on all labels.

    Raises:
        RunError: Two networks have the same name and different weights.
    """

    def __init__(
        self,
        classifier: EmbeddingClassifier,
        bank: SpaceBank,
        networks: Sequence[Backbone],
        mix: NDArray[np.float64] | None = None,
        *,
        final: bool,
    ) -> None:
        super().__init__(classifier, bank, mix)
        self.networks: dict[str, Backbone] = {}
        self.final = final
        self._embedders: dict[tuple[str, str, int], Embedder] = {}
        for network in networks:
            known = self.networks.setdefault(network.name, network)
            if known.weights_id != network.weights_id:
                raise RunError(
                    f"two networks with different weights are called '{network.name}': "
                    "give each a name of its own"
                )
            self.networks[network.name] = bank.register(network)

    def vectors(self, space: Space, images: ImageSet, what: str) -> NDArray[np.float32]:
        """Return the vectors of ``images`` averaged over the views of ``space``, (n, dim)."""
        network = self.networks.get(space.backbone_name)
        if network is None or (self.final and len(images) > _FEW):
            return super().vectors(space, images, what)
        if space.network not in self._embedders:
            self._embedders[space.network] = Embedder(network, space.size, cache=self.bank.cache, eager=True)
        return self.bank.averaged(space, images, what, self._embedders[space.network])

    def state(self) -> tuple[dict[str, NDArray[np.generic]], JsonObject]:
        """Return arrays and plain values; the trained networks' tensors among them."""
        tensors, meta = super().state()
        described: dict[str, Any] = {}
        for name, network in self.networks.items():
            scalars = []
            for key, tensor in network.module.state_dict().items():
                tensors[f"{_TENSORS}{name}.{key}"] = tensor.detach().cpu().numpy()
                if tensor.ndim == 0:  # files may give them back with one dimension
                    scalars.append(key)
            described[name] = {
                "architecture": network.architecture,
                "size": network.default_size,
                "mean": list(network.mean),
                "std": list(network.std),
                "scalars": scalars,
            }
        return tensors, {**meta, "networks": described, "final": self.final}

    @classmethod
    def from_state(
        cls, tensors: dict[str, NDArray[np.generic]], meta: JsonObject, bank: SpaceBank
    ) -> TrainedCandidate:
        """Rebuild a candidate from `state`; its networks are built from their architectures.

        Raises:
            ConfigError: There is no such architecture.
            WeightsError: The tensors do not fit.
            RunError: The user's own network is not what it was.
        """
        described: dict[str, Any] = meta["networks"]  # type: ignore[assignment]
        heads = {key: array for key, array in tensors.items() if not key.startswith(_TENSORS)}
        frozen = FrozenCandidate.from_state(heads, meta, bank)
        networks = [_rebuilt(name, about, tensors, bank) for name, about in described.items()]
        wanted = {(space.backbone_name, space.weights_id) for space in frozen.classifier.spaces}
        for network in networks:
            if (network.name, network.weights_id) not in wanted:
                raise RunError(
                    f"the saved network '{network.name}' is not the one that its head was trained on: "
                    "start a new run"
                )
        return cls(frozen.classifier, bank, networks, frozen.mix, final=bool(meta["final"]))


def _rebuilt(
    name: str, about: dict[str, Any], tensors: dict[str, NDArray[np.generic]], bank: SpaceBank
) -> Backbone:
    prefix = f"{_TENSORS}{name}."
    own = {
        key.removeprefix(prefix): torch.from_numpy(np.array(array))
        for key, array in tensors.items()
        if key.startswith(prefix)
    }
    return rebuild_backbone(
        name,
        {key: tensor.reshape(()) if key in about["scalars"] else tensor for key, tensor in own.items()},
        architecture=about["architecture"],
        size=about["size"],
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        origin=f"the saved network '{name}'",
        own=bank.own,
    )


def vote(
    candidates: Sequence[FrozenCandidate],
    weights: Sequence[float] | None = None,
    *,
    mix: NDArray[np.float64] | None = None,
    final: bool,
) -> TrainedCandidate:
    """Return one candidate whose log-probabilities are the weighted average of several candidates'.

    Args:
        candidates: On frozen vectors or trained; calibrated each as it is.
        weights: Of each; made to sum to 1. Default: equal.
        mix: Estimated share of each class in the pool. Default: the last candidate's that has one.
        final: True for the refits on all labels.
    """
    asked = np.asarray(weights or [1.0] * len(candidates), np.float64)
    branches: list[Branch] = []
    shares: list[float] = []
    for candidate, weight in zip(candidates, asked / asked.sum(), strict=True):
        own = candidate.classifier
        branches += own.branches
        # A candidate says softmax(sum of shares x log-probabilities / temperature): the constant that its own
        # softmax would subtract is the same for all classes, so that the branches of all may stand in one row.
        shares += [weight * share / own.temperature for share in own.branch_weights]
    total = float(sum(shares))
    classifier = EmbeddingClassifier(
        branches, candidates[0].classifier.classes, 1 / total, [share / total for share in shares]
    )
    networks = [n for c in candidates if isinstance(c, TrainedCandidate) for n in c.networks.values()]
    known = [c.mix for c in candidates if c.mix is not None]
    found = mix if mix is not None else known[-1] if known else None
    return TrainedCandidate(classifier, candidates[0].bank, networks, found, final=final)
