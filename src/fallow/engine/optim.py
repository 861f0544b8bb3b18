"""Optimizers and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fallow.engine.settings import LoopSettings

_BETAS = (0.9, 0.999)
_MOMENTUM = 0.9


def lr_scale(step: int, settings: LoopSettings) -> float:
    """Return the learning rate of a step as a share of its peak: linear warm-up, then half a cosine down to ``floor``.

    Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5, without restarts. The first step is not wasted on a rate of zero.
    """
    warm = math.ceil(settings.warmup * settings.steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(settings.steps - warm, 1)
    return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def parameter_groups(
    module: nn.Module, settings: LoopSettings, steady: tuple[nn.Module, float] | None = None
) -> list[dict[str, object]]:
    """Return the groups of trainable parameters: decayed or not, with a rate that falls or not.

    Weights with one dimension (biases, norms) and scalars are not decayed: shrinking them regularizes nothing and, under
    layer-wise rates, makes training diverge. ``peak`` holds the learning rate that `lr_scale` multiplies.

    Args:
        module: All that is trained.
        settings: Rate and decay.
        steady: A part of it whose rate stays what it is from the first step to the last, as a multiple of the others' peak.
    """
    part, times = steady or (None, 1.0)
    apart = {id(p) for p in part.parameters()} if part is not None else set[int]()
    trained = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, object]] = []
    for steadily in (False, True):
        peak = settings.lr * times if steadily else settings.lr
        for decay, flat in ((settings.weight_decay, False), (0.0, True)):
            if chosen := [p for p in trained if (p.ndim <= 1) is flat and (id(p) in apart) is steadily]:
                group: dict[str, object] = {"params": chosen, "weight_decay": decay, "lr": peak, "peak": peak}
                groups.append({**group, "steady": True} if steadily else group)
    return groups


def make_optimizer(groups: list[dict[str, object]], settings: LoopSettings) -> torch.optim.Optimizer:
    """Return the optimizer; decay is decoupled from the gradient in ``adamw`` (arXiv 1711.05101) and ``lamb`` (1904.00962).

    ``lars`` (1708.03888) gives every weight a rate in proportion to its length. Biases and norms, which `parameter_groups` does
    not decay, have the plain rate there too: their length says nothing, and Barlow Twins diverges otherwise.
    """
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=_MOMENTUM, nesterov=True)
    if settings.optimizer == "lamb":
        from timm.optim import Lamb

        # The loop clips, for all optimizers alike.
        lamb: torch.optim.Optimizer = Lamb(groups, lr=settings.lr, betas=_BETAS, max_grad_norm=None)
        return lamb
    if settings.optimizer == "lars":
        from timm.optim import Lars

        adapted = [{**group, "always_adapt": _decayed(group)} for group in groups]
        lars: torch.optim.Optimizer = Lars(adapted, lr=settings.lr, momentum=_MOMENTUM)
        return lars
    return torch.optim.AdamW(groups, lr=settings.lr, betas=_BETAS)


def _decayed(group: Mapping[str, Any]) -> bool:
    """Say whether a group of `parameter_groups` holds weights of two and more dimensions."""
    return any(parameter.ndim > 1 for parameter in group["params"])


def set_lr(optimizer: torch.optim.Optimizer, step: int, settings: LoopSettings) -> None:
    """Set the learning rate of every group for a step."""
    scale = lr_scale(step, settings)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * (1.0 if group.get("steady") else scale)
