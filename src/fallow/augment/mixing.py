"""Mixing images and their targets: mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899), batched.

Each image is mixed with a partner from the same batch. Targets are class probabilities, so that labels,
smoothed labels and a teacher's soft targets are mixed alike. All randomness comes from a CPU generator.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fallow.augment.photometric import send


def one_hot(labels: Tensor, classes: int, smoothing: float = 0.0) -> Tensor:
    """Return labels (n,) as class probabilities (n, classes), with ``smoothing`` spread over all classes."""
    hard = functional.one_hot(labels, classes).float()
    return hard * (1 - smoothing) + smoothing / classes if smoothing else hard


def mixup(
    images: Tensor,
    targets: Tensor,
    alpha: float,
    generator: torch.Generator,
    *,
    per_image: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return images ``w x + (1 - w) x'`` and targets mixed alike, w drawn from Beta(alpha, alpha).

    Args:
        images: (n, c, h, w).
        targets: Class probabilities (n, classes).
        alpha: Parameter of the distribution; 0 mixes nothing.
        generator: CPU generator.
        per_image: Draw w for each image; once for the batch, as the paper does, if False.

    Raises:
        ValueError: Numbers of images and targets differ, or alpha is negative.
    """
    _check(images, targets, alpha)
    if alpha == 0 or len(images) < 2:
        return images, targets
    partner, weight = _draw(len(images), alpha, generator, per_image)
    partner, weight = send(partner, images), send(weight, images)
    return _blend(images, images[partner], weight), _blend(targets, targets[partner], weight)


def cutmix(
    images: Tensor,
    targets: Tensor,
    alpha: float,
    generator: torch.Generator,
    *,
    per_image: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return images with a box pasted in from a partner, and targets mixed by the areas that are really seen.

    The box has the shape of the image and, before it is cut at the border, a share 1 - w of its area, w from
    Beta(alpha, alpha).

    Args:
        images: (n, c, h, w).
        targets: Class probabilities (n, classes).
        alpha: Parameter of the distribution; 0 mixes nothing.
        generator: CPU generator.
        per_image: Draw a box for each image; one for the batch, as the paper does, if False.

    Raises:
        ValueError: Numbers of images and targets differ, or alpha is negative.
    """
    _check(images, targets, alpha)
    if alpha == 0 or len(images) < 2:
        return images, targets
    n, _, height, width = images.shape
    partner, weight = _draw(n, alpha, generator, per_image)
    side = (1 - weight).sqrt()
    center = torch.rand(len(weight), 2, generator=generator)
    rows, columns = _span(side, center[:, 0], height), _span(side, center[:, 1], width)
    kept = 1 - rows.sum(1) * columns.sum(1) / (height * width)
    box = send(rows, images)[:, None, :, None] & send(columns, images)[:, None, None, :]
    partner = send(partner, images)
    mixed = torch.where(box, images[partner], images)
    return mixed, _blend(targets, targets[partner], send(kept, targets))


def _check(images: Tensor, targets: Tensor, alpha: float) -> None:
    if len(images) != len(targets) or targets.ndim != 2:
        raise ValueError(
            f"targets should be class probabilities of {len(images)} images, (n, classes), not "
            f"{tuple(targets.shape)}; one_hot makes them from labels"
        )
    if alpha < 0:
        raise ValueError(f"alpha should be 0 or more, not {alpha:g}")


def _draw(n: int, alpha: float, generator: torch.Generator, per_image: bool) -> tuple[Tensor, Tensor]:
    """Return a partner for each image, (n,), and weights of the images themselves, (n,) or (1,)."""
    partner = torch.randperm(n, generator=generator)
    # PyTorch's Beta takes no generator.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    weight = np.random.default_rng(seed).beta(alpha, alpha, n if per_image else 1)
    return partner, torch.from_numpy(weight).float()


def _span(side: Tensor, center: Tensor, size: int) -> Tensor:
    """Return which of ``size`` pixels lie in spans of a share ``side`` around ``center``, (n, size)."""
    length = (side * size).floor()
    begin = (center * size).floor() - (length / 2).floor()
    pixel = torch.arange(size)[None]
    return (pixel >= begin[:, None]) & (pixel < (begin + length)[:, None])


def _blend(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    return torch.lerp(second, first, weight.to(first.dtype).view(-1, *[1] * (first.ndim - 1)))
