"""Batches: which images a step sees, how each of them is changed, and where the pixels lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fallow.engine.seeds import Stream, generator
from fallow.engine.settings import LoopSettings
from fallow.methods import Batch, Strength, Views
from fallow.tasks import View

Change = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Images (n, 3, h, w) in 0..1 -> changed images and the affine (n, 2, 3) from view to source."""
Mix = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Images and class probabilities (n, classes) -> mixed images and class probabilities."""
_DEVICE_SHARE = 0.4
"""Pixels move to an accelerator when they take no more than this share of its free memory."""


@dataclass(frozen=True)
class Material:
    """What a fit may learn from.

    Attributes:
        pixels: All images, uint8 (n, s, s, 3); labeled and unlabeled rows lie in the same array, so that folds share it.
        labeled: Rows of the labeled images, (l,).
        targets: What the task wants for them: long (l,), or class probabilities (l, classes).
        unlabeled: Rows of the pool, (u,); empty where a method looks at none.
        weights: How far each unlabeled image is trusted, (u,) in 0..1; None trusts all.
        labeled_weights: How often each labeled image is drawn, relative to others, (l,); None draws all alike.
    """

    pixels: NDArray[np.uint8]
    labeled: Tensor
    targets: Tensor
    unlabeled: Tensor
    weights: Tensor | None = None
    labeled_weights: Tensor | None = None


class Feed:
    """Makes the batch of any step, the same whenever it is asked: nothing but the step number is its state.

    With several processes each makes its own part of the batch.

    Args:
        material: Images and targets.
        changes: How images of a view are changed, by strength; a strength that is missing leaves them as they are.
        views: Which views the method wants.
        settings: Batch sizes and seed.
        device: Where batches are wanted.
        mix: Mixes labeled images with each other (mixup, CutMix); targets must be class probabilities then.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        material: Material,
        changes: Mapping[Strength, Change],
        views: Views,
        settings: LoopSettings,
        *,
        device: torch.device | None = None,
        mix: Mix | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.material, self.changes, self.views, self.settings = material, changes, views, settings
        self.device = device or torch.device("cpu")
        self.mix, self.rank, self.world_size = mix, rank, world_size
        self._pixels = self._placed()
        seed = settings.seed
        self._labeled = Stream(len(material.labeled), seed, "labeled")
        self._unlabeled = Stream(len(material.unlabeled), seed, "unlabeled")

    def batch(self, step: int, part: int = 0) -> Batch:
        """Return a batch.

        Args:
            step: Number of the optimizer step.
            part: Which of the accumulated batches of the step.
        """
        number = step * self.settings.accumulate + part
        labeled, targets, shown = self._known(number)
        index = self._mine(self._unlabeled, number, self.settings.unlabeled_batch)
        images, views = self._views(self.material.unlabeled[index], self.views.unlabeled, number, "unlabeled")
        weights = self.material.weights
        return Batch(
            index=index.to(self.device),
            labeled=labeled,
            unlabeled=images,
            targets=targets,
            labeled_views=shown,
            unlabeled_views=views,
            weights=None if weights is None else weights[index].to(self.device),
        )

    def _known(self, number: int) -> tuple[tuple[Tensor, ...], Tensor, tuple[View, ...]]:
        count = self.settings.batch_size
        if self.material.labeled_weights is None:
            chosen = self._mine(self._labeled, number, count)
        else:
            drawn = generator(self.settings.seed, "draw", number)
            everyone = torch.multinomial(self.material.labeled_weights, count, True, generator=drawn)
            chosen = everyone[self.rank :: self.world_size]
        images, views = self._views(self.material.labeled[chosen], self.views.labeled, number, "labeled")
        targets = self.material.targets[chosen].to(self.device)
        if self.mix is None or not images:
            return images, targets, views
        mixed, targets = self.mix(images[0], targets, generator(self.settings.seed, "mix", number, self.rank))
        return (mixed, *images[1:]), targets, views

    def _mine(self, stream: Stream, number: int, count: int) -> Tensor:
        """Return this process's part of the indices of a batch."""
        if not stream.count or not count:
            return torch.zeros(0, dtype=torch.long)
        return stream.take(number * count, count)[self.rank :: self.world_size]

    def _views(
        self, rows: Tensor, strengths: tuple[Strength, ...], number: int, name: str
    ) -> tuple[tuple[Tensor, ...], tuple[View, ...]]:
        if not len(rows) or not strengths:
            return (), ()
        images = self._images(rows)
        made, views = [], []
        for position, strength in enumerate(strengths):
            change = self.changes.get(strength)
            if change is None:
                made.append(images)
                views.append(View(strong=strength == "strong"))
                continue
            drawn = generator(self.settings.seed, name, position, number, self.rank)
            changed, affine = change(images, drawn)
            made.append(changed)
            views.append(View(affine, strength == "strong"))
        return tuple(made), tuple(views)

    def _images(self, rows: Tensor) -> Tensor:
        """Return images as float (n, 3, s, s) in 0..1, channels last in memory."""
        if isinstance(self._pixels, Tensor):
            taken = self._pixels[rows.to(self._pixels.device)]
        else:
            taken = torch.from_numpy(np.ascontiguousarray(self._pixels[rows.numpy()]))
        return taken.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)

    def _placed(self) -> Tensor | NDArray[np.uint8]:
        pixels = self.material.pixels
        if self.device.type != "cuda":
            return pixels
        free, _ = torch.cuda.mem_get_info(self.device)
        return (
            torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
            if pixels.nbytes < _DEVICE_SHARE * free
            else pixels
        )
