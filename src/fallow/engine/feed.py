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

    A batch is dealt out in equal shares to the parts that a step is computed in and to the processes; its size is rounded
    up to a multiple of their number. The loop says where the batches are wanted (`place`).

    Args:
        material: Images and targets.
        changes: How images of a view are changed, by strength; a strength that is missing leaves them as they are.
        views: Which views the method wants.
        settings: Batch sizes and seed.
        mix: Mixes labeled images with each other (mixup, CutMix); targets must be class probabilities then.
    """

    def __init__(
        self,
        material: Material,
        changes: Mapping[Strength, Change],
        views: Views,
        settings: LoopSettings,
        *,
        mix: Mix | None = None,
    ) -> None:
        self.material, self.changes, self.views, self.settings = material, changes, views, settings
        self.mix = mix
        self.place(torch.device("cpu"))
        seed = settings.seed
        self._labeled = Stream(len(material.labeled), seed, "labeled")
        self._unlabeled = Stream(len(material.unlabeled), seed, "unlabeled")

    def place(self, device: torch.device, rank: int = 0, world_size: int = 1) -> None:
        """Say where batches are wanted; pixels that fit go there once.

        Args:
            device: The device.
            rank: Number of this process.
            world_size: Number of processes.
        """
        self.device, self.rank, self.world_size = device, rank, world_size
        self._pixels = self._placed()

    def batch(self, step: int, part: int = 0) -> Batch:
        """Return this process's share of a part of a batch.

        Args:
            step: Number of the optimizer step.
            part: Which of the parts that the step is computed in.
        """
        share = part * self.world_size + self.rank
        labeled, targets, shown = self._known(step, share)
        index = self._shared(self._unlabeled, step, share, self.settings.unlabeled_batch)
        rows = self.material.unlabeled[index]
        images, views = self._views(rows, self.views.unlabeled, "unlabeled", step, share)
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

    def _known(self, step: int, share: int) -> tuple[tuple[Tensor, ...], Tensor, tuple[View, ...]]:
        count = self.settings.batch_size
        if self.material.labeled_weights is None:
            chosen = self._shared(self._labeled, step, share, count)
        else:
            drawn = generator(self.settings.seed, "draw", step)
            count = self._rounded(count)
            everyone = torch.multinomial(self.material.labeled_weights, count, True, generator=drawn)
            chosen = everyone[share :: self._shares]
        rows = self.material.labeled[chosen]
        images, views = self._views(rows, self.views.labeled, "labeled", step, share)
        targets = self.material.targets[chosen].to(self.device)
        if self.mix is None or not images:
            return images, targets, views
        mixed, targets = self.mix(images[0], targets, generator(self.settings.seed, "mix", step, share))
        return (mixed, *images[1:]), targets, views

    @property
    def _shares(self) -> int:
        return self.settings.accumulate * self.world_size

    def _rounded(self, count: int) -> int:
        return -(-count // self._shares) * self._shares

    def _shared(self, stream: Stream, step: int, share: int, count: int) -> Tensor:
        """Return one share of the indices of a batch."""
        if not stream.count or not count:
            return torch.zeros(0, dtype=torch.long)
        count = self._rounded(count)
        return stream.take(step * count, count)[share :: self._shares]

    def _views(
        self, rows: Tensor, strengths: tuple[Strength, ...], name: str, step: int, share: int
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
            drawn = generator(self.settings.seed, name, position, step, share)
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
