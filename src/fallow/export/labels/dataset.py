"""Labels as a torch ``Dataset`` for a training loop that knows nothing of fallow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fallow.errors import ConfigError
from fallow.export.labels.base import LabelSet
from fallow.models import one_hot

Targets = Literal["hard", "soft"]
Take = Literal["accept", "all"]


class LabelDataset(Dataset[tuple[Any, Tensor, Tensor]]):
    """Yields ``(image, label, weight)``: the labels that were given, then those of the pool.

    A given label weighs 1, one of the pool its own weight times ``unlabeled_weight``. Multiply each image's loss by its
    weight and divide by the sum of the weights.

    Args:
        labels: What was labeled and how images are read.
        transform: Called with the uint8 (H, W, 3) NumPy pixels; its result is the image. None: a float32 tensor (3, H, W)
            in 0..1; images of one size batch as they are.
        targets: ``hard`` yields class positions (int64, scalar), ``soft`` probabilities (float32, (classes,)), one-hot for
            given labels.
        unlabeled_weight: Scales the weights of the pool's labels. Default 1: a label counts as much as it is likely to
            be right.
        take: ``accept``: accepted images of the pool. ``all``: doubtful ones too, weighted by their probability, which makes
            sense with soft targets only. Foreign images never.

    Attributes:
        classes: Class names; positions are labels.
        ids: Names of the images, in order.
        weights: float32 (n,), what is yielded as the weight: for samplers.
        targets: int64 (n,) or float32 (n, classes).

    Raises:
        ConfigError: There are no such targets, or no such images to take, or the weight is below zero.
    """

    def __init__(
        self,
        labels: LabelSet,
        transform: Callable[[NDArray[np.uint8]], Any] | None = None,
        *,
        targets: Targets = "hard",
        unlabeled_weight: float = 1.0,
        take: Take = "accept",
    ) -> None:
        for name, value, known in (("targets", targets, Targets), ("take", take, Take)):
            if value not in get_args(known):
                raise ConfigError(f"{name}='{value}' is not known: give {' or '.join(get_args(known))}")
        if not 0 <= unlabeled_weight < float("inf"):
            raise ConfigError(
                f"unlabeled_weight={unlabeled_weight} cannot weigh a loss: give 0 or more, 1 for as it is likely right"
            )
        pool = labels.pool
        given = [one for one in labels.given if one.split == "train"]
        rows = pool.where("accept") if take == "accept" else np.flatnonzero(pool.verdict != 2)
        index = {name: place for place, name in enumerate(pool.classes)}
        own = np.array([index[one.label] for one in given], np.int64)
        self.classes: tuple[str, ...] = pool.classes
        self.ids: tuple[str, ...] = (*(one.id for one in given), *(pool.ids[row] for row in rows))
        weights = np.concatenate([np.ones(len(given)), unlabeled_weight * pool.probability[rows]])
        self.weights = torch.from_numpy(weights.astype(np.float32))
        hard = np.concatenate([own, pool.guess[rows]])
        if targets == "soft":
            soft = np.concatenate([one_hot(own, len(pool.classes)), pool.probs[rows]])
            self.targets = torch.from_numpy(soft.astype(np.float32))
        else:
            self.targets = torch.from_numpy(hard)
        self._read, self._transform = labels.read, transform

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Any, Tensor, Tensor]:
        """Return image, target and weight (a float32 scalar)."""
        pixels = self._read(self.ids[index])
        image = _plain(pixels) if self._transform is None else self._transform(pixels)
        return image, self.targets[index], self.weights[index]


def _plain(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255
