"""What `pretrain.py` is compared with: the loop of LightlySSL's CIFAR-10 benchmark, on our network, images, batch and seconds.

Its transforms, losses, heads and optimizer (SGD, 0.06 for 128 images a step, momentum 0.9, weight decay 5e-4, cosine), with the
images in memory and a `DataLoader` without workers, as there is one core. Heads are as wide against the features as in that benchmark.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

_LR, _MOMENTUM, _DECAY, _TIMED = 0.06, 0.9, 5e-4, 3


class Pictures(torch.utils.data.Dataset[list[Tensor]]):
    """Two views of each image, made by a transform that takes a picture."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.pictures, self.transform = [Image.fromarray(one) for one in pixels], transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.pictures[index])


def parts(method: str, dim: int, size: int, normalize: dict[str, list[float]]) -> tuple[Any, nn.Module, Any]:
    """Return transform, projector and loss of ``simclr`` or ``barlow_twins``."""
    from lightly.loss import BarlowTwinsLoss, NTXentLoss
    from lightly.models.modules import BarlowTwinsProjectionHead, SimCLRProjectionHead
    from lightly.transforms import BYOLTransform, SimCLRTransform
    from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform

    plain: dict[str, Any] = {"input_size": size, "gaussian_blur": 0.0, "normalize": normalize}
    if method == "simclr":
        transform: Any = SimCLRTransform(cj_strength=0.5, **plain)
        return transform, SimCLRProjectionHead(dim, dim, 128), NTXentLoss()
    views = BYOLView1Transform(**plain), BYOLView2Transform(**plain)
    return BYOLTransform(*views), BarlowTwinsProjectionHead(dim, 4 * dim, 4 * dim), BarlowTwinsLoss()


def endless(loader: Any) -> Iterator[list[Tensor]]:
    """Return batch after batch."""
    while True:
        yield from loader


def learn(
    method: str,
    module: nn.Module,
    dim: int,
    pixels: np.ndarray,
    seconds: float,
    batch: int,
    seed: int,
    normalize: dict[str, list[float]],
) -> dict[str, Any]:
    """Train ``module`` in place for so many seconds and return what was done.

    Args:
        method: ``simclr`` or ``barlow_twins``.
        module: Normalized images to features (n, dim).
        dim: Channels of the features.
        pixels: Images, uint8 (n, s, s, 3).
        seconds: What the steps may take.
        batch: Images a step.
        seed: Of order, noise and projector.
        normalize: Mean and standard deviation that the network wants.
    """
    torch.manual_seed(seed)
    transform, projector, criterion = parts(method, dim, pixels.shape[1], normalize)
    loader = torch.utils.data.DataLoader(Pictures(pixels, transform), batch, shuffle=True, drop_last=True)
    batches = endless(loader)

    def step(both: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        one, two = next(batches)
        loss = criterion(both(one), both(two))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        both = nn.Sequential(module, projector).train()
        rate = _LR * batch / 128
        return both, torch.optim.SGD(both.parameters(), rate, momentum=_MOMENTUM, weight_decay=_DECAY)

    before = {name: value.clone() for name, value in module.state_dict().items()}
    both, optimizer = made()
    begun = time.monotonic()
    for _ in range(_TIMED):
        step(both, optimizer)
    steps = max(1, int(seconds * _TIMED / (time.monotonic() - begun)))
    module.load_state_dict(before)
    both, optimizer = made()
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda at: (1 + math.cos(math.pi * min(at / steps, 1.0))) / 2
    )
    begun, done = time.monotonic(), 0
    while done < steps and time.monotonic() - begun < 1.1 * seconds:
        step(both, optimizer)
        schedule.step()
        done += 1
    spent = time.monotonic() - begun
    return {
        "steps": done,
        "seconds": round(spent, 1),
        "images_per_second": round(done * batch / spent, 1),
        "findings": [],
    }
