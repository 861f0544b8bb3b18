"""Small pretraining runs on real digits through the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fallow.engine import Change, Feed, Loop, LoopSettings, Material
from fallow.methods import PretrainMethod, pretrain_method
from fallow.models import Network, create_backbone, from_backbone, token_info
from fallow.tasks import FeatureInfo

SETTINGS = LoopSettings(steps=6, batch_size=0, unlabeled_batch=8, lr=2e-3, ema_decay=0.0, seed=3)


@cache
def pixels(count: int = 1797, side: int = 8) -> NDArray[np.uint8]:
    gray = np.rint(load_digits().images[:count] * (255 / 16)).astype(np.uint8)
    rgb = np.repeat(gray[..., None], 3, -1)
    return np.ascontiguousarray(rgb.repeat(side // 8, 1).repeat(side // 8, 2))


def labels(count: int) -> tuple[Tensor, Tensor]:
    """Return the rows of the first so many digits, and what they are."""
    return torch.arange(count), torch.from_numpy(load_digits().target[:count]).long()


def network(name: str = "small_resnet_8", size: int = 8) -> Network:
    return from_backbone(create_backbone(name, size=size), nn.Identity(), size)


def make_loop(
    method: str | PretrainMethod,
    settings: LoopSettings = SETTINGS,
    *,
    count: int = 60,
    of: nn.Module | None = None,
    dim: int = 32,
    changes: Mapping[str, Change] | None = None,
    size: int = 8,
    options: Mapping[str, Any] | None = None,
    norms: bool = True,
    **how: Any,
) -> Loop:
    """Return a loop on so many digits; everything random that a caller makes before the first step is seeded here."""
    torch.manual_seed(11)
    of = of or network(size=size)
    method = pretrain_method(method, **(options or {})) if isinstance(method, str) else method
    stuff = Material(pixels(count, size), *labels(0), torch.arange(count))
    if method.views.labeled:  # half of the images are labeled, and half of a batch
        half, known_rows = settings.unlabeled_batch // 2, count // 2
        stuff = Material(pixels(count, size), *labels(known_rows), torch.arange(known_rows, count))
        settings = replace(settings, batch_size=half, unlabeled_batch=settings.unlabeled_batch - half)
    if method.teacher is not None and not settings.ema_decay:
        settings = replace(settings, ema_decay=0.9)  # of a teacher that moves
    method.build(
        FeatureInfo(dim),
        count,
        10 if method.views.labeled else 0,
        settings.steps,
        settings.batch_size + settings.unlabeled_batch,
        token_info(of),
        known=known(count, dim) if method.asks else None,
    )
    if not norms:
        without_norms(method)
    if changes is None:
        changes = method.augmentations(size, gray=True, flips=())
    return Loop(of, method, Feed(stuff, changes, method.views, settings), settings, **how)


def without_norms(module: nn.Module) -> None:
    """Take every BatchNorm out: what is said of an image then depends on no other but through the loss."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d):
            setattr(module, name, nn.Identity())
        without_norms(child)


def known(count: int, dim: int) -> Tensor:
    """Return what a frozen network might say of so many digits: a few directions of their pixels."""
    flat = torch.from_numpy(pixels(count).reshape(count, -1)).float() / 255
    return flat @ torch.randn(flat.shape[1], dim, generator=torch.Generator().manual_seed(6)) / 8


class NoNorm(nn.Module):
    """A network without BatchNorm for images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.Tanh(), nn.Conv2d(16, 32, 3), nn.Tanh())
        self.head = nn.Identity()

    def features(self, images: Tensor) -> Tensor:
        found: Tensor = self.body(images).mean((2, 3))
        return found


def settings(**what: Any) -> LoopSettings:
    return replace(SETTINGS, **what)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
