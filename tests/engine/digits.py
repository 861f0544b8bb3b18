"""Small fits on real digits: what the tests of the engine run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fallow.augment import strong_policy, weak_policy
from fallow.augment.presets import default_limits
from fallow.engine import Change, Feed, Loop, LoopSettings, Material
from fallow.methods import JointMethod, NoisyStudent, Strength, Supervised, joint_method
from fallow.models import create_backbone, from_backbone
from fallow.tasks import Classification, FeatureInfo, Posteriors

DIM = 32
SETTINGS = LoopSettings(steps=8, batch_size=6, unlabeled_batch=8, lr=2e-3, ema_decay=0.9, seed=3)
SAME: dict[Strength, Change] = {}
"""No noise at all."""


@cache
def noise() -> Mapping[Strength, Change]:
    limits = default_limits(gray=True)
    return {
        "weak": weak_policy(limits, flips=(), gray=True),
        "strong": strong_policy(limits, flips=(), gray=True),
    }


@cache
def material(classes: int = 4, labels: int = 5, pool: int = 20) -> Material:
    """Return real digits of the first classes: so many labeled and unlabeled ones of each."""
    data = load_digits(n_class=classes)
    gray = np.rint(data.images * (255 / 16)).astype(np.uint8)
    pixels = np.ascontiguousarray(np.repeat(gray[..., None], 3, -1))
    order = [np.flatnonzero(data.target == c) for c in range(classes)]
    labeled = np.concatenate([own[:labels] for own in order])
    unlabeled = np.concatenate([own[labels : labels + pool] for own in order])
    return Material(
        pixels,
        torch.from_numpy(labeled),
        torch.from_numpy(data.target[labeled]),
        torch.from_numpy(unlabeled),
    )


def task(classes: int = 4) -> Classification:
    return Classification(tuple("abcdefghij"[:classes]))


def method_named(name: str, classes: int = 4, **options: Any) -> JointMethod:
    """Make a method; ``finetune`` and ``noisy_student`` too, whose teacher is sure of the last class."""
    if name == "finetune":
        return Supervised(task(classes))
    if name == "noisy_student":
        return NoisyStudent(task(classes), teacher=lambda index: sure_of_the_last(index, classes))
    return joint_method(name, task(classes), **options)


def sure_of_the_last(index: Tensor, classes: int) -> Posteriors:
    probs = torch.eye(classes)[-1].expand(len(index), classes)
    return Posteriors("categorical", probs, torch.arange(len(index)))


class NoNorm(nn.Module):
    """A network without BatchNorm, whose answer for an image depends on no other."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, DIM))
        self.head = nn.Linear(DIM, classes)

    def features(self, images: Tensor) -> Tensor:
        found: Tensor = torch.relu(self.body(images))
        return found


def no_norm(seed: int = 0, classes: int = 4) -> NoNorm:
    torch.manual_seed(seed)
    return NoNorm(classes)


def small(classes: int = 4, dropout: float = 0.2, drop_path: float = 0.3) -> nn.Module:
    """Return our small network with all the noise it can have."""
    head = nn.Linear(DIM, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return from_backbone(
        create_backbone("small_resnet_8", size=8), head, 8, dropout=dropout, drop_path=drop_path
    )


def make_loop(
    name: str | JointMethod = "softmatch",
    settings: LoopSettings = SETTINGS,
    *,
    network: nn.Module | None = None,
    stuff: Material | None = None,
    changes: Mapping[Strength, Change] | None = None,
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> Loop:
    """Return a loop on digits; everything random that a caller makes before the first step is seeded here."""
    stuff = stuff or material()
    classes = int(stuff.targets.max()) + 1
    torch.manual_seed(11)
    network = network or small(classes)
    method = method_named(name, classes, **(options or {})) if isinstance(name, str) else name
    method.build(FeatureInfo(DIM), len(stuff.unlabeled), classes, settings.steps)
    feed = Feed(stuff, noise() if changes is None else changes, method.views, settings)
    return Loop(network, method, feed, settings, **how)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def changed(settings: LoopSettings = SETTINGS, **what: Any) -> LoopSettings:
    return replace(settings, **what)
