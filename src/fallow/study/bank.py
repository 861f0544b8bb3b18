"""The vectors of a study: every embedding is computed once, whoever asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fallow.config import EmbedConfig, View
from fallow.errors import RunError
from fallow.models import PIXELS, Backbone, Embedder, Space, load_backbone
from fallow.study.rung import ImageSet
from fallow.types import Progress, silent

_CHUNK = 4096


@dataclass
class SpaceBank:
    """Backbones, embedders and the vectors they gave.

    Attributes:
        config: What was asked for about embeddings.
        cache: Directory of the on-disk cache, shared between runs.
        offline: Never reach for a model hub.
        own: The user's own backbone, by name, beside those of timm.
        progress: Who watches.
    """

    config: EmbedConfig
    cache: Path
    offline: bool = False
    own: Backbone | None = None
    progress: Progress = silent

    def __post_init__(self) -> None:
        self._backbones: dict[str, Backbone] = {self.own.name: self.own} if self.own is not None else {}
        # Those that a run trained, as long as a candidate holds them: of every fold there is one of the same name.
        self._trained: WeakValueDictionary[tuple[str, str], Backbone] = WeakValueDictionary()
        self._embedders: dict[tuple[str, str, int], Embedder] = {}
        self._vectors: dict[str, dict[tuple[str, ...], NDArray[np.float32]]] = {}
        self._places: dict[tuple[str, ...], dict[str, int]] = {}

    def named(self) -> tuple[str, ...]:
        """Load the backbones that were asked for by name and return their names; none where that was left to the plan.

        Done before the data are read: a name that is none, or weights that do not fit, are told at once.

        Raises:
            ConfigError: There is no such backbone.
            WeightsError: It has no weights, or they do not fit.
        """
        asked = self.config.backbone
        names = () if asked == "auto" or self.own is not None else tuple(map(str.strip, asked.split("+")))
        for name in names:
            self.backbone(name)
        return names

    def backbone(self, name: str) -> Backbone:
        """Return the backbone called ``name``, loaded once."""
        if name not in self._backbones:
            # The pixels have no weights, also where they vote beside a backbone whose weights were given.
            weights = None if name == PIXELS and self.config.backbone == "auto" else self.config.weights
            self._backbones[name] = load_backbone(name, weights=weights, offline=self.offline)
        return self._backbones[name]

    def register(self, backbone: Backbone) -> Backbone:
        """Make a network that was trained known, by name and weights, for as long as someone holds it.

        Returns:
            What is to be held: the one that is known already, where it has the same weights. Folds whose backbone stood
            still all have those it started with.

        Raises:
            RunError: It has the name of a backbone that was not trained.
        """
        if not backbone.trained:
            raise RunError(
                f"the trained network '{backbone.name}' has its architecture's name: call it otherwise"
            )
        return self._trained.setdefault((backbone.name, backbone.weights_id), backbone)

    def network(self, space: Space) -> Backbone:
        """Return the backbone whose vectors ``space`` stands for.

        Raises:
            RunError: It has other weights, or nobody holds it any more.
        """
        name, weights_id, _ = space.network
        found = self._trained.get((name, weights_id))
        if found is None and all(trained != name for trained, _ in self._trained):
            found = self.backbone(name)
        if found is None or found.weights_id != weights_id:
            raise RunError(
                f"the weights {weights_id} of '{name}' are needed and not there: give the weights that the run "
                "was started with, or start a new run"
            )
        return found

    def space(self, name: str, size: int, views: View) -> Space:
        """Return the space of a backbone at a size under a set of views."""
        return Space(name, self.backbone(name).weights_id, size, views)

    def embedder(self, name: str, size: int) -> Embedder:
        """Return the embedder of a backbone at a size."""
        return self._embedder(self.backbone(name), size)

    def _embedder(self, backbone: Backbone, size: int) -> Embedder:
        key = (backbone.name, backbone.weights_id, size)
        if key not in self._embedders:
            self._embedders[key] = Embedder(backbone, size, cache=self.cache)
        return self._embedders[key]

    def pooled(
        self, space: Space, images: ImageSet, what: str = "images", network: Backbone | None = None
    ) -> NDArray[np.float32]:
        """Return the vectors of ``images`` averaged over the views of ``space``, (n, dim).

        Kept in memory, so that folds share them: images that are among others that are kept, as a fold's held-out ones
        are among the labeled, are rows of those. Averaged in chunks, so that eight views of 100,000 images never lie
        in memory side by side.

        Args:
            space: Backbone, size and views.
            images: What to embed.
            what: Name for the progress line.
            network: The backbone of ``space``, where it is none of the bank's.
        """
        kept, ids = self._vectors.setdefault(space.key, {}), tuple(images.ids)
        if ids in kept:
            return kept[ids]
        for others, vectors in kept.items():
            places = self._places_in(others) if len(ids) <= len(others) else {}
            if places and all(i in places for i in ids):
                return vectors[[places[i] for i in ids]]
        embedder = None if network is None else self._embedder(network, space.size)
        kept[ids] = self.averaged(space, images, what, embedder)
        return kept[ids]

    def averaged(
        self, space: Space, images: ImageSet, what: str = "images", embedder: Embedder | None = None
    ) -> NDArray[np.float32]:
        """Return the vectors of ``images`` averaged over the views of ``space``, (n, dim), without keeping them.

        Args:
            space: Backbone, size and views.
            images: What to embed.
            what: Name for the progress line.
            embedder: What to embed with; None: the bank's own.
        """
        embedder = embedder or self._embedder(self.network(space), space.size)
        found = np.empty((len(images), embedder.dim), np.float32)
        for start in range(0, len(images), _CHUNK):
            rows = slice(start, start + _CHUNK)
            views = self.compute(space, images.part(rows), what, (start, len(images)), embedder)
            views.mean(1, dtype=np.float32, out=found[rows])
        return found

    def _places_in(self, ids: tuple[str, ...]) -> dict[str, int]:
        """Return the row of each of these images."""
        if ids not in self._places:
            self._places[ids] = {name: row for row, name in enumerate(ids)}
        return self._places[ids]

    def compute(
        self,
        space: Space,
        images: ImageSet,
        what: str = "images",
        place: tuple[int, int] | None = None,
        embedder: Embedder | None = None,
    ) -> NDArray[np.float32]:
        """Return the vectors of ``images``, (n, views, dim), without keeping them in memory.

        Args:
            space: Backbone, size and views.
            images: What to embed.
            what: Name for the progress line.
            place: How many of how many images came before these, for the progress line.
            embedder: What to embed with; None: the bank's own.
        """
        before, everything = place or (0, len(images))
        embedder = embedder or self._embedder(self.network(space), space.size)
        return embedder.embed(
            images.read,
            images.ids,
            images.pixel_hashes,
            space.views,
            progress=lambda _, done, total: self.progress(
                f"embed {what}", before + done * len(images) // max(total, 1), everything
            ),
        )

    def embed_batch(self, name: str, size: int, batch: Tensor) -> NDArray[np.float32]:
        """Return the vectors of images that are no files, such as augmented ones; they are not cached.

        Args:
            name: Backbone.
            size: Image size S.
            batch: Float (n, 3, S, S) in 0..1.
        """
        pixels = (batch * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return self.embedder(name, size).embed_pixels(pixels)
