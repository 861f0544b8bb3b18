"""Batches of maps: what the frozen part of a network made of a few noised views of each image, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fallow.engine.feed import Feed, Material, Mix
from fallow.engine.seeds import Stream, generator
from fallow.engine.settings import LoopSettings
from fallow.methods import Strength, Views
from fallow.tasks import View


@dataclass(frozen=True)
class Sheet:
    """The maps of some images at one strength of noise.

    Attributes:
        maps: (n, k, ...): k views of each image, in half or full precision.
        affine: From view to source, (n, k, 2, 3); None where nothing is moved.
        first: Row of the first of the images in `Material.pixels`.
        rows: Rows of the images, where they do not follow each other; rising.
    """

    maps: NDArray[np.floating]
    affine: Tensor | None = None
    first: int = 0
    rows: NDArray[np.int64] | None = None

    def take(self, rows: Tensor, drawn: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return one of the views of each of these images, drawn at random, with its affine map."""
        where = rows.numpy() - self.first if self.rows is None else np.searchsorted(self.rows, rows.numpy())
        view = torch.randint(self.maps.shape[1], (len(rows),), generator=drawn)
        maps = torch.from_numpy(self.maps[where, view.numpy()].astype(np.float32))
        if maps.ndim == 4:
            maps = maps.contiguous(memory_format=torch.channels_last)
        return maps, None if self.affine is None else self.affine[torch.from_numpy(where), view]


@dataclass(frozen=True)
class TwoSheets:
    """The maps of images that were made apart, and with other numbers of views.

    Attributes:
        before: Of the images below a row of `Material.pixels`.
        after: Of those from that row on.
        row: The row.
    """

    before: Sheet
    after: Sheet
    row: int

    def take(self, rows: Tensor, drawn: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return one of the views of each of these images, drawn at random, with its affine map."""
        late = rows >= self.row
        first, moved = self.before.take(rows[~late], drawn)
        second, turned = self.after.take(rows[late], drawn)
        order = torch.argsort(torch.cat([torch.where(~late)[0], torch.where(late)[0]]))
        maps = torch.cat([first, second])[order]
        if maps.ndim == 4:
            maps = maps.contiguous(memory_format=torch.channels_last)
        return maps, None if moved is None or turned is None else torch.cat([moved, turned])[order]


@dataclass(frozen=True)
class Maps:
    """All maps that a fit may draw from.

    Attributes:
        labeled: Of the labeled images, by strength.
        unlabeled: Of the pool, by strength.
        pool: Positions in the pool of the images that have maps, rising; None: all.
    """

    labeled: Mapping[Strength, Sheet | TwoSheets]
    unlabeled: Mapping[Strength, Sheet]
    pool: Tensor | None = None


class MapFeed(Feed):
    """Makes batches of maps in place of pixels: one of an image's views, another in each step.

    Like `Feed` it has no state but the step number.

    Args:
        material: Targets and rows; its pixels are not looked at.
        maps: What is drawn from.
        views: Which views the method wants.
        settings: Batch sizes and seed.
        mix: Mixes labeled maps with each other; targets must be class probabilities then.
    """

    def __init__(
        self,
        material: Material,
        maps: Maps,
        views: Views,
        settings: LoopSettings,
        *,
        mix: Mix | None = None,
    ) -> None:
        super().__init__(material, {}, views, settings, mix=mix)
        self.maps = maps
        if maps.pool is not None and len(material.unlabeled):
            self._unlabeled = Stream(len(maps.pool), settings.seed, "unlabeled")

    def _shared(self, stream: Stream, step: int, share: int, count: int) -> Tensor:
        index = super()._shared(stream, step, share, count)
        pool = self.maps.pool
        return index if pool is None or stream is not self._unlabeled else pool[index]

    def _views(
        self, rows: Tensor, strengths: tuple[Strength, ...], name: str, step: int, share: int
    ) -> tuple[tuple[Tensor, ...], tuple[View, ...]]:
        if not len(rows) or not strengths:
            return (), ()
        sheets: Mapping[Strength, Sheet | TwoSheets] = (
            self.maps.labeled if name == "labeled" else self.maps.unlabeled
        )
        made, views = [], []
        for position, strength in enumerate(strengths):
            drawn = generator(self.settings.seed, name, position, step, share)
            maps, affine = sheets[strength].take(rows, drawn)
            made.append(maps.to(self.device))
            views.append(View(affine, strength == "strong"))
        return tuple(made), tuple(views)
