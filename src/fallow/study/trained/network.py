"""Which network is trained, from where, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fallow.errors import ConfigError
from fallow.models import (
    PIXELS,
    SMALL_RESNET,
    SMALL_STEM,
    Backbone,
    Trainable,
    create_backbone,
    has_peft,
    is_transformer,
    lets_gradient_through,
    load_backbone,
)
from fallow.models.small import SMALL_MEAN, SMALL_STD
from fallow.study.context import RungContext
from fallow.study.priors import Network
from fallow.types import Json

_WIDTH = 32
_LEAST_SIDE, _MOST_SIDE = 8, 64
_MANY_LABELS = 20
"""Labels a class from which a whole pretrained network may change on an accelerator; below, its last blocks."""


@dataclass(frozen=True)
class NetworkPlan:
    """The network that all trained rungs of a run share.

    Attributes:
        backbone: timm name, ``small_resnet_<width>``, or the name of the user's own network.
        size: Side in pixels of what it sees.
        scratch: It starts from random weights.
        trainable: What of it changes.
    """

    backbone: str
    size: int
    scratch: bool
    trainable: Trainable

    @property
    def init(self) -> Network:
        """Where it starts, in a word."""
        return "scratch" if self.scratch else "pretrained"

    def described(self) -> dict[str, Json]:
        """Return the values as the keys of ``network`` have them."""
        return {
            "backbone": self.backbone,
            "init": self.init,
            "size": self.size,
            "trainable": self.trainable,
        }


def network_plan(ctx: RungContext) -> NetworkPlan:
    """Return which network is trained: decided once a run, by what the labels' folds do not change."""
    plan, reasons = _planned(ctx)
    key = ("run", "network decided")
    if key not in ctx.scratch:
        for (name, value), why in zip(plan.described().items(), reasons, strict=True):
            pinned = getattr(ctx.config.network, name) == value
            ctx.decide(f"network.{name}", value, why, pinned, _evidence(ctx) if name == "backbone" else {})
        ctx.scratch[key] = True
    return plan


def starting_network(ctx: RungContext) -> tuple[NetworkPlan, Backbone]:
    """Return what would be trained and where it would start, without a decision that the report tells.

    Raises:
        ConfigError: What was asked for contradicts itself, or there is no such network.
        WeightsError: It has no weights, or they do not fit.
    """
    plan, _ = _planned(ctx)
    return plan, _start(ctx, plan, 0)


def starting_backbone(ctx: RungContext, seed: int) -> Backbone:
    """Return the backbone that training starts from; random weights differ by ``seed``."""
    return _start(ctx, network_plan(ctx), seed)


def _start(ctx: RungContext, plan: NetworkPlan, seed: int) -> Backbone:
    return untrained(plan.backbone, plan.size, seed) if plan.scratch else _pretrained(ctx, plan.backbone)


def untrained(name: str, size: int, seed: int) -> Backbone:
    """Return the network that training from scratch starts from, for images of a side of ``size`` pixels."""
    return create_backbone(name, size=size, mean=SMALL_MEAN, std=SMALL_STD, seed=seed)


def scratch_size(side: float) -> tuple[int, str]:
    """Return the side in pixels at which a network learns from scratch on images of a shorter side, and why."""
    return max(_LEAST_SIDE, min(_MOST_SIDE, round(side))), "The size of the images themselves, 64 at most."


def usual_network(backbones: Sequence[str]) -> tuple[str, str]:
    """Return the network that is trained where ``backbones`` suit the images, and why."""
    pretrained = [name for name in backbones if name != PIXELS]
    if PIXELS in backbones or not pretrained:
        why = "Small gray images, or no pretrained weights: a small network that learns from scratch in minutes."
        return f"{SMALL_RESNET}{_WIDTH}", why
    return pretrained[0], "The pretrained network at hand."


def _pretrained(ctx: RungContext, name: str) -> Backbone:
    """Return the pretrained backbone called ``name``, loaded once."""
    weights, key = ctx.config.network.weights, ("run", "starting weights")
    if weights is None and name in ctx.plan.backbones:
        return ctx.bank.backbone(name)
    if key not in ctx.scratch:
        ctx.scratch[key] = load_backbone(name, weights=weights, offline=ctx.config.offline)
    backbone: Backbone = ctx.scratch[key]
    return backbone


def _planned(ctx: RungContext) -> tuple[NetworkPlan, tuple[str, ...]]:
    """Return the plan and why each of its values is what it is."""
    key = ("run", "network plan")
    if key not in ctx.scratch:
        name, why = _backbone(ctx)
        scratch, how = _scratch(ctx, name)
        size, large = _size(ctx, name, scratch)
        trainable, what = _trainable(ctx, name, scratch, size)
        ctx.scratch[key] = NetworkPlan(name, size, scratch, trainable), (why, how, large, what)
    planned: tuple[NetworkPlan, tuple[str, ...]] = ctx.scratch[key]
    return planned


def _evidence(ctx: RungContext) -> dict[str, Json]:
    return {
        "short_side": ctx.data.audit.short_side_median,
        "channels": ctx.data.audit.channels,
        "labels_a_class": ctx.data.per_class,
    }


def _backbone(ctx: RungContext) -> tuple[str, str]:
    asked, own = ctx.config.network, ctx.bank.own
    if asked.backbone != "auto":
        return asked.backbone, "Asked for."
    if own is not None:
        return own.name, "The network that was handed in."
    if asked.init == "pretrained" and asked.weights is None:
        known = [name for name in ctx.plan.backbones if name != PIXELS]
        if not known:
            raise ConfigError(
                "'network.init' is pretrained, and no pretrained network is at hand: name one as network.backbone, or "
                "leave it out"
            )
        return known[0], "The pretrained network at hand."
    return usual_network(ctx.plan.backbones)


def _scratch(ctx: RungContext, name: str) -> tuple[bool, str]:
    asked, own = ctx.config.network, ctx.bank.own
    if own is not None and name == own.name and (asked.init == "scratch" or asked.weights is not None):
        key = "weights" if asked.weights is not None else "init"
        raise ConfigError(
            f"'network.{key}' cannot be followed: the network that was handed in starts from the weights that it has; "
            "leave it out, or name another network as network.backbone"
        )
    if asked.weights is not None:
        return False, "The weights that were given."
    if asked.init == "scratch":
        return True, "Asked for."
    if (name.startswith(SMALL_RESNET) or name.endswith(SMALL_STEM)) and name not in ctx.plan.backbones:
        if asked.init == "pretrained":
            raise ConfigError(
                f"'network.init' is pretrained, and {name} has no pretrained weights: give a file as network.weights, or "
                "leave it out"
            )
        return True, "A network for small images has no pretrained weights."
    if asked.init == "pretrained":
        return False, "Asked for."
    return False, "A pretrained network has seen more images than any pool of this size holds."


def _size(ctx: RungContext, name: str, scratch: bool) -> tuple[int, str]:
    asked, side = ctx.config.network.size, ctx.data.audit.short_side_median
    if isinstance(asked, int):
        return asked, "Asked for."
    if scratch or name.startswith(SMALL_RESNET):
        return scratch_size(side)
    for own, size in zip(ctx.plan.backbones, ctx.plan.sizes, strict=True):
        if own == name:
            return size, "The size at which the rungs below look at the images."
    return _pretrained(ctx, name).default_size, "The size the network was trained at."


def _trainable(ctx: RungContext, name: str, scratch: bool, size: int) -> tuple[Trainable, str]:
    asked, own = ctx.config.network.trainable, ctx.bank.own
    if asked != "auto":
        return asked, "Asked for."
    if scratch:
        return "all", "Random weights have nothing worth keeping."
    if name.startswith(SMALL_RESNET):
        return "all", "A small network changes as a whole."
    if own is not None and name == own.name and not lets_gradient_through(own, size):
        return "head", "The network that was handed in lets no gradient through."
    import torch

    if torch.cuda.is_available():
        if ctx.data.per_class >= _MANY_LABELS:
            return "all", f"An accelerator, and {_MANY_LABELS} labels a class or more."
        if has_peft() and is_transformer((own or _pretrained(ctx, name)).module):
            why = "An accelerator, a vision transformer and few labels: adapters change all of its layers a little."
            return "lora", why
    return (
        "last",
        "The last blocks: few labels bend what the first ones know, and on a CPU they cost most of the time.",
    )
