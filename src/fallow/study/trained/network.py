"""Which network is trained, from where, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.models import (
    PIXELS,
    SMALL_RESNET,
    Backbone,
    Trainable,
    create_backbone,
    lets_gradient_through,
    load_backbone,
)
from fallow.study.context import RungContext
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


def network_plan(ctx: RungContext) -> NetworkPlan:
    """Return which network is trained: decided once a run, by what the labels' folds do not change."""
    key = ("run", "network plan")
    if key not in ctx.scratch:
        ctx.scratch[key] = _plan(ctx)
    plan: NetworkPlan = ctx.scratch[key]
    return plan


def check_network(ctx: RungContext) -> None:
    """Make sure that a network that was asked for can be had, before time is spent on a run that could not train it.

    Raises:
        ConfigError: There is no such network.
        WeightsError: It has no weights, or they do not fit.
    """
    asked = ctx.config.network
    if asked.backbone == "auto" or ctx.bank.own is not None:
        return
    if asked.backbone.startswith(SMALL_RESNET) or asked.init == "scratch":
        create_backbone(asked.backbone)
    else:
        _pretrained(ctx, asked.backbone)


def starting_backbone(ctx: RungContext, seed: int) -> Backbone:
    """Return the backbone that training starts from; random weights differ by ``seed``."""
    plan = network_plan(ctx)
    if plan.scratch:
        mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        return create_backbone(plan.backbone, size=plan.size, mean=mean, std=std, seed=seed)
    return _pretrained(ctx, plan.backbone)


def _pretrained(ctx: RungContext, name: str) -> Backbone:
    """Return the pretrained backbone called ``name``, loaded once."""
    weights, key = ctx.config.network.weights, ("run", "starting weights")
    if weights is None and (name in ctx.plan.backbones or ctx.bank.own is not None):
        return ctx.bank.backbone(name)
    if key not in ctx.scratch:
        ctx.scratch[key] = load_backbone(name, weights=weights, offline=ctx.config.offline)
    backbone: Backbone = ctx.scratch[key]
    return backbone


def _plan(ctx: RungContext) -> NetworkPlan:
    asked = ctx.config.network
    evidence: dict[str, Json] = {
        "short_side": ctx.data.audit.short_side_median,
        "channels": ctx.data.audit.channels,
        "labels_a_class": ctx.data.per_class,
    }
    name, why = _backbone(ctx)
    ctx.decide("network.backbone", name, why, asked.backbone != "auto", evidence)
    scratch, why = _scratch(ctx, name)
    ctx.decide("network.init", "scratch" if scratch else "pretrained", why, asked.init != "auto")
    size, why = _size(ctx, name, scratch)
    ctx.decide("network.size", size, why, asked.size != "auto")
    trainable, why = _trainable(ctx, scratch, size)
    ctx.decide("network.trainable", trainable, why, asked.trainable != "auto")
    return NetworkPlan(name, size, scratch, trainable)


def _backbone(ctx: RungContext) -> tuple[str, str]:
    if ctx.bank.own is not None:
        return ctx.bank.own.name, "The network that was handed in."
    if ctx.config.network.backbone != "auto":
        return ctx.config.network.backbone, "Asked for."
    pretrained = [name for name in ctx.plan.backbones if name != PIXELS]
    if PIXELS in ctx.plan.backbones or not pretrained:
        why = "Small gray images, or no pretrained weights: a small network that learns from scratch in minutes."
        return f"{SMALL_RESNET}{_WIDTH}", why
    return pretrained[0], "The pretrained network whose vectors the rungs below use."


def _scratch(ctx: RungContext, name: str) -> tuple[bool, str]:
    asked = ctx.config.network
    if name.startswith(SMALL_RESNET):
        return True, "The small network has no pretrained weights."
    if asked.init != "auto":
        return asked.init == "scratch", "Asked for."
    return False, "A pretrained network has seen more images than any pool of this size holds."


def _size(ctx: RungContext, name: str, scratch: bool) -> tuple[int, str]:
    asked, side = ctx.config.network.size, ctx.data.audit.short_side_median
    if isinstance(asked, int):
        return asked, "Asked for."
    if scratch:
        return max(
            _LEAST_SIDE, min(_MOST_SIDE, round(side))
        ), "The size of the images themselves, 64 at most."
    for own, size in zip(ctx.plan.backbones, ctx.plan.sizes, strict=True):
        if own == name:
            return size, "The size at which the rungs below look at the images."
    return _pretrained(ctx, name).default_size, "The size the network was trained at."


def _trainable(ctx: RungContext, scratch: bool, size: int) -> tuple[Trainable, str]:
    asked = ctx.config.network.trainable
    if asked != "auto":
        return asked, "Asked for."
    if scratch:
        return "all", "Random weights have nothing worth keeping."
    if ctx.bank.own is not None and not lets_gradient_through(ctx.bank.own, size):
        return "head", "The network that was handed in lets no gradient through."
    import torch

    if torch.cuda.is_available() and ctx.data.per_class >= _MANY_LABELS:
        return "all", f"An accelerator, and {_MANY_LABELS} labels a class or more."
    return (
        "last",
        "The last blocks: few labels bend what the first ones know, and on a CPU they cost most of the time.",
    )
