"""One fit of a network: what every trained rung does, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fallow.augment import cutmix, mixup, one_hot
from fallow.data import read_pixels
from fallow.engine import (
    Change,
    Feed,
    Loop,
    LoopSettings,
    MapFeed,
    Material,
    Mix,
    Outcome,
    Place,
    time_steps,
)
from fallow.methods import JointMethod, Strength
from fallow.models import (
    Backbone,
    Network,
    Preprocess,
    TailNetwork,
    from_backbone,
    network_classifier,
    to_backbone,
)
from fallow.record import Decision
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.context import RungContext
from fallow.study.extra import extra_mass
from fallow.study.inputs import FrozenInputs
from fallow.study.rung import Fold
from fallow.study.spaces import spaces_of
from fallow.study.trained.foreign import foreign_images
from fallow.study.trained.maps import MapBank, bank_of
from fallow.study.trained.network import NetworkPlan, network_plan
from fallow.study.trained.noise import noise_of, noises
from fallow.study.trained.recipe import Recipe
from fallow.study.trained.tune import DECAY, LR, MIX, decide, resolved
from fallow.types import JsonObject

_TIMED_STEPS = 1000
_ALPHA = 0.2
"""Mixup's Beta(0.2, 0.2): mostly one image with a trace of another; stronger mixing underfits few labels."""


@dataclass(frozen=True)
class Fit:
    """What a fit starts from; made by `Fit.of`.

    Attributes:
        ctx: Data, decisions and clock.
        fold: What is held out; None is the refit.
        plan: The network.
        material: Pixels, labels and pool.
        joint: Whether the pool takes part.
        changes: Noise by strength.
    """

    ctx: RungContext
    fold: Fold | None
    plan: NetworkPlan
    material: Material
    joint: bool
    changes: Mapping[Strength, Change]

    @classmethod
    def of(cls, ctx: RungContext, fold: Fold | None, *, joint: bool) -> Fit:
        """Gather what a fold may learn from: its held-out images are nowhere in it."""
        plan, noise = network_plan(ctx), noise_of(ctx, fold)
        train, count = ctx.train_positions(fold), len(ctx.data.y)
        material = Material(
            pixels_at(ctx, plan.size),
            torch.from_numpy(train),
            torch.from_numpy(ctx.data.y[train]),
            torch.arange(count, count + len(ctx.pool)) if joint else torch.zeros(0, dtype=torch.long),
            weights=_trust(ctx, fold) if joint else None,
        )
        if joint and ctx.data.extra_ids:
            material = _with_extra(ctx, fold, material)
        return cls(ctx, fold, plan, material, joint, {"weak": noise.weak, "strong": noise.strong})

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.ctx.data.classes)

    def settings(self, steps: int) -> LoopSettings:
        """Return how the network is trained."""
        return Recipe(self.plan, self.joint).settings(self.ctx, self.fold, steps)

    def loop(
        self,
        network: Network,
        method: JointMethod,
        settings: LoopSettings,
        *,
        title: str,
        place: Place | None = None,
        material: Material | None = None,
        mix: Mix | None = None,
        measured: bool = False,
    ) -> Loop:
        """Return the loop of this fit; one that is only ``measured`` trains on maps of nothing where it would have maps."""
        material = material or self.material
        if mix is not None:
            material = _soft(material, self.classes)
        bank = self.bank(network)
        if bank is None:
            feed = Feed(material, self.changes, method.views, settings, mix=mix)
        else:
            network, views, material = TailNetwork(network, bank.cut), method.views, bank.mapped(material)
            maps = bank.blank(material, views) if measured else bank.maps(material, self.changes, views)
            feed = MapFeed(material, maps, views, settings, mix=mix)
        return Loop(
            network,
            method,
            feed,
            settings,
            place=place,
            classes=self.ctx.data.classes,
            chance_loss=log(self.classes),
            progress=self.ctx.progress,
            title=title,
            tell=self.ctx.tell,
        )

    def bank(self, network: Network) -> MapBank | None:
        """Return the maps that a network is trained on, where a part of it stands still."""
        return bank_of(self.ctx, network, self.material.pixels, self.changes.get("strong"))

    def shared_seconds(self, network: Network, method: JointMethod) -> float:
        """Return what the maps take that a method needs and no rung has made yet."""
        bank = self.bank(network)
        return 0.0 if bank is None else bank.seconds(self.changes, method.views, noises(self.ctx))

    def pool_probs(self, candidate: FrozenCandidate) -> Tensor:
        """Return what a candidate says of the pool, (pool, classes): through maps where its networks share their trunk.

        Images of the pool that have no maps take no part in training, and what is said of them is nothing.
        """
        trained = candidate.networks if isinstance(candidate, TrainedCandidate) else {}
        vectors = {}
        for space in candidate.classifier.spaces:
            network = trained.get(space.backbone_name)
            found = None if network is None else self._pool_features(network)
            vectors[space.key] = candidate.vectors(space, self.ctx.pool, "pool") if found is None else found
        return torch.from_numpy(
            candidate.classifier.predict_probs({k: v[:, None] for k, v in vectors.items()})
        )

    def _pool_features(self, backbone: Backbone) -> NDArray[np.float32] | None:
        network = from_backbone(backbone, nn.Identity(), self.plan.size, trainable=self.plan.trainable)
        bank = self.bank(network)
        if bank is None:
            return None
        return bank.features(TailNetwork(network, bank.cut), self.material, self.changes.get("weak"))

    def place(self, rung: str) -> Place | None:
        """Return where the fit keeps its checkpoint and figures."""
        folder = self.ctx.workdir
        if folder is None:
            return None
        run, trackers = self.ctx.folder, self.ctx.config.log.trackers
        tracked = None if run is None else run / "trackers"
        return Place(folder, f"{rung}-{self.ctx.scratch_key(self.fold)}", trackers, tracked)

    def candidate(
        self, rung: str, outcome: Outcome, mix: NDArray[np.float64] | None = None
    ) -> TrainedCandidate:
        """Freeze what was trained. A pretrained network looks at the views that keep the class, as the rungs below do."""
        network = outcome.network
        assert isinstance(network, Network)
        head: nn.Module = network.head
        if isinstance(outcome.method, JointMethod) and (own := outcome.method.prediction_head()) is not None:
            head = own
        backbone = to_backbone(network, f"{rung}/{network.like.architecture}")
        views = "none" if self.plan.scratch else spaces_of(self.ctx, self.fold)[0].views
        classifier = network_classifier(backbone, head, self.plan.size, self.ctx.data.classes, views=views)
        return TrainedCandidate(classifier, self.ctx.bank, [backbone], mix, final=self.fold is None)


def _with_extra(ctx: RungContext, fold: Fold | None, material: Material) -> Material:
    """Return the material with extra images among the labeled ones, drawn as often as they count in the heads below."""
    mass = extra_mass(ctx, fold, FrozenInputs(ctx, fold))
    if mass == 0.0:
        return material
    labels, count, first = len(material.labeled), len(ctx.extra), len(ctx.data.y) + len(ctx.pool)
    weights = torch.ones(labels + count)
    weights[labels:] = mass * labels / count
    return replace(
        material,
        labeled=torch.cat([material.labeled, torch.arange(first, first + count)]),
        targets=torch.cat([material.targets, torch.from_numpy(ctx.data.extra_y)]),
        labeled_weights=weights,
    )


def _trust(ctx: RungContext, fold: Fold | None) -> Tensor | None:
    """Return how far each pool image is trusted; None where all are."""
    foreign = foreign_images(ctx, fold)
    return torch.from_numpy(~foreign).float() if foreign.any() else None


def pixels_at(ctx: RungContext, size: int) -> NDArray[np.uint8]:
    """Return all labeled images, the pool and the extra images at a size, in this order; read once a run."""
    key = ("run", f"pixels-{size}")
    if key not in ctx.scratch:
        images = ctx.data.images((*ctx.data.labeled_ids, *ctx.data.pool_ids, *ctx.data.extra_ids))
        ctx.scratch[key] = read_pixels(
            images.read,
            images.ids,
            size,
            Preprocess(size).resize,
            folder=ctx.bank.cache / "pixels",
            key="".join(images.pixel_hashes),
            progress=ctx.progress,
        )
    pixels: NDArray[np.uint8] = ctx.scratch[key]
    return pixels


def step_seconds(ctx: RungContext, rung: str, make: Callable[[], Loop]) -> float:
    """Return what a step of a rung takes here and now, measured once a run on a network that is thrown away."""
    key = ("run", f"step-seconds-{rung}")
    if key not in ctx.scratch:
        ctx.progress(f"{rung}: measure a step", 0, 0)
        ctx.scratch[key] = time_steps(make())
    seconds: float = ctx.scratch[key]
    return seconds


def timed_settings(fit: Fit) -> LoopSettings:
    """Return settings for measuring a step."""
    return fit.settings(_TIMED_STEPS)


def mixing(ctx: RungContext, fold: Fold | None, default: str = "none") -> Mix | None:
    """Return how labeled images are mixed with each other."""
    name = resolved(ctx, fold, MIX, default)
    if name == "none":
        return None
    made = mixup if name == "mixup" else cutmix
    return lambda images, targets, generator: made(images, targets, _ALPHA, generator)


def _soft(material: Material, classes: int) -> Material:
    if material.targets.ndim == 2:
        return material
    return replace(material, targets=one_hot(material.targets, classes))


def record_training(ctx: RungContext, rung: str, settings: LoopSettings, outcome: Outcome) -> None:
    """Write down how the final network was trained, and what it showed."""
    rule = "Steps by data and budget; rates and averages by where the network starts from; pinned values as asked for."
    figures: JsonObject = {name: round(value, 4) for name, value in outcome.figures.items()}
    if outcome.findings:
        figures["findings"] = [found.sentence for found in outcome.findings]
    decide(ctx, LR, settings.lr)
    decide(ctx, DECAY, settings.weight_decay)
    decide(ctx, MIX, resolved(ctx, None, MIX, "none"))
    ctx.decisions.add(
        Decision(f"{rung}.training", {**settings.to_json(), "done": outcome.steps}, "rule", rule, figures)
    )
