"""Small networks and real pictures for the tests of models and export."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.datasets import load_digits, load_sample_images
from torch import nn

from fallow.models import Backbone, from_module

Pixels = NDArray[np.uint8]


class Tiny(nn.Module):
    """A network of the user's own: 4-D output, batch norm, a submodule worth hooking."""

    def __init__(self, channels: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, channels, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(channels, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


@cache
def tiny_module() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


@cache
def tiny_backbone(size: int = 32) -> Backbone:
    return from_module(tiny_module(), size=size, feature_hook="body", name="tiny")


def resnet_file(folder: Path) -> Path:
    """Write random weights of timm's ``test_resnet`` and return the file."""
    import timm

    torch.manual_seed(0)
    path = folder / "test_resnet.safetensors"
    if not path.exists():
        save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), path)
    return path


def photos(count: int, seed: int = 0) -> tuple[list[Pixels], NDArray[np.int64]]:
    """Return crops of odd sizes from two real photographs, and which of the two each comes from."""
    rng = np.random.default_rng(seed)
    scenes = load_sample_images().images
    crops, which = [], rng.integers(0, 2, count)
    for scene in which:
        height, width = rng.integers(20, 200, 2)
        top, left = rng.integers(0, 427 - height), rng.integers(0, 640 - width)
        crops.append(np.ascontiguousarray(scenes[scene][top : top + height, left : left + width]))
    return crops, which


def digits(count: int) -> tuple[list[Pixels], NDArray[np.int64]]:
    """Return real 8x8 gray digits as RGB, and their classes."""
    data = load_digits()
    gray = np.round(data.images[:count] / 16 * 255).astype(np.uint8)
    return list(np.repeat(gray[..., None], 3, -1)), data.target[:count]


class Reader:
    """Reads from a list by id and remembers what was read."""

    def __init__(self, images: list[Pixels], prefix: str = "") -> None:
        self.images, self.read_ids = images, []
        self.ids = [f"{prefix}{number}" for number in range(len(images))]
        self.hashes = [f"hash-{prefix}{number}" for number in range(len(images))]

    def __call__(self, name: str) -> Pixels:
        self.read_ids.append(name)
        return self.images[self.ids.index(name)]
