"""What is judged: one network, or the several that a trained model reads side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fallow.config import SUPPORTED_RUNGS, EmbedConfig
from fallow.data import cache_dir
from fallow.errors import ConfigError
from fallow.export import load_bundle, model_folder
from fallow.models import PIXELS, Backbone, Embedder, unit_length
from fallow.models.saved import BACKBONE, META
from fallow.models.small import is_small_resnet
from fallow.record import read_json
from fallow.record.probed import ProbedNetwork
from fallow.study.bank import SpaceBank
from fallow.study.plan import usual_size
from fallow.study.rung import ImageSet
from fallow.study.trained.network import scratch_size, untrained
from fallow.types import Progress, silent

Learned = Literal["nothing", "images", "labels"]
_MODEL = "model"
_SIDE = 32
"""A side that is as good as any: no tensor of the small networks depends on it."""


@dataclass(frozen=True)
class Part:
    """A network of a subject, the side that it sees and the views that its features are averaged over."""

    backbone: Backbone
    size: int
    views: str = "none"


@dataclass(frozen=True)
class Subject:
    """What is judged.

    Attributes:
        name: As the user named it.
        about: What it is, in a few words.
        parts: Its networks.
        learned: What of its run's data it learned from.
    """

    name: str
    about: str
    parts: tuple[Part, ...]
    learned: Learned = "nothing"

    def embed(self, images: ImageSet, what: str, progress: Progress = silent) -> NDArray[np.float32]:
        """Return the features of images, (n, dim); those of several networks side by side, each of unit length."""
        bank = SpaceBank(EmbedConfig(), cache_dir(), progress=progress)
        found = []
        for part in self.parts:
            embedder = Embedder(part.backbone, part.size, cache=bank.cache)
            found.append(bank.averaged(embedder.space(part.views), images, what, embedder))
        return found[0] if len(found) == 1 else np.concatenate([unit_length(f) for f in found], 1)

    @property
    def described(self) -> ProbedNetwork:
        """What the record says of it."""
        sizes = tuple(part.backbone.fit_size(part.size) for part in self.parts)
        dim = sum(part.backbone.dim_at(part.size) for part in self.parts)
        return ProbedNetwork(self.name, self.about, dim, sizes)


@dataclass(frozen=True)
class Named:
    """A backbone that was asked for.

    Attributes:
        name: timm name, names joined by ``+``, ``pixels``, ``small_resnet_<width>`` (untrained), or the folder of a run of
            ``fallow pretrain`` or ``fallow train``.
        own: A network that was handed in.
        weights: File with its weights.
        offline: Never reach for a model hub.
        seed: Of the weights of an untrained network.
    """

    name: str
    own: Backbone | None = None
    weights: Path | None = None
    offline: bool = False
    seed: int = 0

    def load(self) -> Loaded:
        """Load it.

        Raises:
            ConfigError: There is no such backbone.
            WeightsError: It has no weights, or they do not fit.
            RunError: Its model is incomplete.
        """
        folder = trained_folder(Path(self.name)) if self.own is None else None
        bank = SpaceBank(
            EmbedConfig(
                backbone="auto" if self.own is not None or folder else self.name, weights=self.weights
            ),
            cache_dir(),
            self.offline,
            own=self.own,
        )
        if folder is not None:
            if self.weights is not None:
                raise ConfigError(f"'{self.name}' has weights of its own: leave out --weights {self.weights}")
            parts, tuned = _of_bundle(folder)
            about = "trained with labels" if tuned else "frozen, as a trained model reads it"
            return Loaded(self.name, about, bank, tuple(parts), "labels" if tuned else "nothing")
        names = [self.own.name] if self.own is not None else [n.strip() for n in self.name.split("+")]
        backbones = [self._backbone(bank, name) for name in names]
        about = "; ".join(dict.fromkeys("pretrained by fallow" if b.lasting else b.note for b in backbones))
        learned: Learned = "images" if any(b.lasting for b in backbones) else "nothing"
        return Loaded(self.name, about, bank, tuple(Part(b, 0) for b in backbones), learned)

    def _backbone(self, bank: SpaceBank, name: str) -> Backbone:
        if is_small_resnet(name) and self.weights is None and self.own is None:
            # Nobody has weights for it: what it says untrained is a floor that others are compared with.
            return untrained(name, _SIDE, self.seed)
        return bank.backbone(name)


@dataclass(frozen=True)
class Loaded:
    """A backbone that was loaded; at which size it looks at images is settled once they are known.

    Attributes:
        name: As the user named it.
        about: What it is, in a few words.
        bank: What it was loaded with.
        parts: Its networks; a size of 0 is not settled yet.
        learned: What of its run's data it learned from.
    """

    name: str
    about: str
    bank: SpaceBank
    parts: tuple[Part, ...]
    learned: Learned = "nothing"

    @property
    def size(self) -> int | None:
        """The side at which it learned what sets it apart, or that its code wants; None: any will do."""
        first = self.parts[0]
        settled = first.backbone.lasting or first.backbone.fixed_size or self.bank.own is not None
        return (first.size or first.backbone.default_size) if settled else None

    def sized(self, side: float, asked: int | None, like: int | None = None) -> Subject:
        """Settle its size.

        Args:
            side: Shorter side of the images, in pixels.
            asked: What the user wants.
            like: The size of the backbone it is compared with, where that has one of its own.
        """

        def settle(part: Part) -> Part:
            name = part.backbone.name
            if name == PIXELS:
                return replace(part, size=usual_size(name, side, self.bank)[0])
            if asked or part.size:
                return replace(part, size=asked or part.size)
            if like and self.size is None:
                return replace(part, size=like)
            if is_small_resnet(name):
                return replace(part, size=scratch_size(side)[0])
            return replace(part, size=usual_size(name, side, self.bank)[0])

        return Subject(self.name, self.about, tuple(map(settle, self.parts)), self.learned)


def trained_folder(path: Path) -> Path | None:
    """Return the folder with the model of a training run that ``path`` means; None where it holds a backbone, or nothing."""
    folder = model_folder(path)
    found = None if folder is None else read_json(folder / META)
    return None if isinstance(found, dict) and found.get("kind") == BACKBONE else folder


def _of_bundle(folder: Path) -> tuple[list[Part], bool]:
    """Return the networks that a trained model reads, with the views it looks at, and whether labels taught any of them."""
    deployed = load_bundle(folder)
    backbones, spaces = deployed.backbones(), {s.key: s for s in deployed.classifier().spaces}
    read = [(backbones[space.backbone_name], space) for space in spaces.values()]
    # Networks of a run are its own; this one left it, so that what it says of an image may be kept.
    parts = [Part(replace(network, lasting=True), space.size, space.views) for network, space in read]
    return parts, any(_tuned(network) for network, _ in read)


def _tuned(network: Backbone) -> bool:
    """Say whether a rung trained the network: its name then says which."""
    rung = network.name.removesuffix(f"/{network.architecture}").partition(":")[0]
    return network.name != network.architecture and rung in (*SUPPORTED_RUNGS, "distill")
