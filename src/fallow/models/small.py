"""Networks for small images: our own residual network, and the stem that timm's networks need for them."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fallow.errors import ConfigError

SMALL_RESNET = "small_resnet_"
"""What the names of `SmallResNet` begin with; the width follows."""

SMALL_STEM = ".small_stem"
"""What the name of a timm network ends with whose stem does not shrink the image."""

SMALL_MEAN, SMALL_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""What networks that learn from scratch are fed with: mean and standard deviation per channel on a 0..1 scale."""

_FULL_SIDE, _HALF_SIDE = 20, 40
"""Sides up to which the body sees the image as it is, and at half its side; at a quarter above."""


class DropPath(nn.Module):
    """Stochastic depth: leaves out a residual branch, image by image, and scales the others up.

    Huang et al. 2016, arXiv 1603.09382. Outside of training it does nothing.

    Args:
        rate: Probability that a branch is left out.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` with some images' branches zeroed."""
        if not self.training or self.rate <= 0:
            return x
        kept = x.new_empty((len(x), *[1] * (x.ndim - 1))).bernoulli_(1 - self.rate)
        return x * kept / (1 - self.rate)

    def extra_repr(self) -> str:
        """Show the rate in the network's description."""
        return f"{self.rate:g}"


class _Block(nn.Module):
    """Two 3x3 convolutions with normalization first (He et al. 2016, arXiv 1603.05027)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels_in), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.widen = None if channels == channels_in else nn.Conv2d(channels_in, channels, 1, bias=False)
        self.drop_path = DropPath()

    def forward(self, x: torch.Tensor, stride: int) -> torch.Tensor:
        active = functional.relu(self.norm1(x))
        short = x if self.widen is None else active
        short = short[:, :, ::stride, ::stride] if stride > 1 else short
        short = short if self.widen is None else self.widen(short)
        y = functional.conv2d(active, self.conv1.weight, stride=stride, padding=1)
        y = self.conv2(functional.relu(self.norm2(y)))
        return short + self.drop_path(y)


class SmallResNet(nn.Module):
    """A residual network for images up to 64 px that learns from scratch on a CPU.

    Three stages of ``blocks`` blocks with ``width``, 2 ``width`` and 4 ``width`` channels. Up to 20 px the first stage
    sees every pixel; up to 40 px the stem has stride 2, above the first block has too, so that the first stage never
    sees more than about 16 x 16 cells. No tensor depends on the image's side.

    Images a second in training (forward, backward and SGD step, batches of 128, channels last) on one core of a
    shared AMD EPYC server:

    ======  ==========  =====  =====  =====  =====
    width   parameters   8 px  16 px  28 px  64 px
    ======  ==========  =====  =====  =====  =====
    16      0.08 M      9,700  2,500  4,100  1,700
    32      0.31 M      3,600    940    960    510
    48      0.69 M      1,500    450    530    370
    64      1.22 M      1,200    280    360    190
    ======  ==========  =====  =====  =====  =====

    Channels last is 2 to 35 % faster than the default layout. Of four nets of like cost, width 32 with one block a stage
    was right most often after 110 s of one core on 5,000 labeled CIFAR-10 images (66.9 % of the test images; two blocks
    at width 16: 66.3, at 24: 64.8), and two blocks at 16 after 40 s (59.4; width 32: 55.6; one block at width 16 with
    the first stage at full resolution: 49.1).

    Args:
        width: Channels of the first stage.
        blocks: Blocks of each stage.
    """

    pretrained_cfg: ClassVar[dict[str, Any]] = {
        "input_size": (3, 32, 32),
        "mean": SMALL_MEAN,
        "std": SMALL_STD,
    }
    """What its weights want to be fed with, as timm's networks say it."""

    def __init__(self, width: int, blocks: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        channels = [width, 2 * width, 4 * width]
        before = [width, *channels[:-1]]
        self.stages = nn.ModuleList(
            nn.ModuleList(_Block(first if n == 0 else own, own) for n in range(blocks))
            for first, own in zip(before, channels, strict=True)
        )
        self.norm = nn.BatchNorm2d(channels[-1])
        self.grad_checkpointing = False
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return pooled features (N, 4 width) of normalized images (N, 3, S, S)."""
        side = x.shape[-1]
        strides = (1 if side <= _HALF_SIDE else 2, 2, 2)
        x = functional.conv2d(x, self.stem.weight, stride=1 if side <= _FULL_SIDE else 2, padding=1)
        for stage, stride in zip(self.stages, strides, strict=True):
            assert isinstance(stage, nn.ModuleList)
            for number, block in enumerate(stage):
                own = stride if number == 0 else 1
                x = (
                    checkpoint(block, x, own, use_reentrant=False)
                    if self.grad_checkpointing
                    else block(x, own)
                )
        return functional.relu(self.norm(x)).mean((2, 3))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Say whether activations inside of blocks are computed again for the gradient, as in timm's networks."""
        self.grad_checkpointing = enable


def is_small_resnet(name: str) -> bool:
    """Say whether ``name`` is one of ours."""
    return name.startswith(SMALL_RESNET)


def small_resnet(name: str) -> SmallResNet:
    """Build ``small_resnet_<width>``.

    Raises:
        ConfigError: The width is no multiple of 8 from 8 to 512.
    """
    found = re.fullmatch(r"[1-9][0-9]{0,2}", name.removeprefix(SMALL_RESNET))
    width = int(found.group()) if found else 0
    if width % 8 or not 8 <= width <= 512:
        raise ConfigError(
            f"there is no backbone '{name}': write {SMALL_RESNET}WIDTH with a multiple of 8 from 8 to 512, "
            f"such as {SMALL_RESNET}32"
        )
    return SmallResNet(width)


def give_small_stem(module: nn.Module, name: str) -> None:
    """Make the stem of a timm network keep the image's side: 3x3 convolution with stride 1, and no pooling.

    Understood are networks with ``conv1`` and ``maxpool`` (the ResNets) and with ``conv_stem`` (the EfficientNets and
    MobileNets). The new convolution has weights of its own: pretrained ones were made for another scale.

    Raises:
        ConfigError: The stem is of another kind.
    """
    place, key = module, "conv1" if hasattr(module, "maxpool") else "conv_stem"
    if isinstance(
        deep := getattr(module, key, None), nn.Sequential
    ):  # of several layers, the first of which shrinks
        place, key = deep, "0"
    old = getattr(place, key, None)
    if isinstance(old, nn.Conv2d):
        setattr(place, key, _stem_convolution(old))
        if hasattr(module, "maxpool"):
            module.maxpool = nn.Identity()
    else:
        raise ConfigError(
            f"the backbone '{name}' has a stem that is not understood: a small-image stem can be given to timm's "
            f"ResNets, EfficientNets and MobileNets; or use {SMALL_RESNET}32"
        )


def _stem_convolution(old: nn.Conv2d) -> nn.Conv2d:
    made = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=old.bias is not None)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


_BRANCHES = ("drop_path", "drop_path1", "drop_path2")


def set_drop_path(module: nn.Module, rate: float) -> int:
    """Give the residual blocks of a network stochastic depth that grows linearly with depth up to ``rate``.

    Returns:
        The number of branches that may now be left out; 0 where the network has none that are understood.
    """
    from timm.layers import DropPath as TimmDropPath

    places = [
        (part, name)
        for part in module.modules()
        for name in _BRANCHES
        if hasattr(part, name)
        and isinstance(getattr(part, name), nn.Identity | DropPath | TimmDropPath | None)
    ]
    for position, (part, name) in enumerate(places):
        own = rate * (position + 1) / len(places)
        setattr(part, name, DropPath(own) if own > 0 else nn.Identity())
    return len(places) if rate > 0 else 0
