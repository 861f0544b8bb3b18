"""Geometric transforms: each draws view-to-source affine maps in normalized coordinates.

All take strengths (N,), uniform numbers (N, draws) and the aspect, height / width, and return (N, 2, 3) on the
CPU. A turn in pixels is not a turn in normalized coordinates unless the image is square, hence the aspect.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def signs(u: Tensor) -> Tensor:
    """Return -1 or 1 for each uniform number."""
    return torch.where(u < 0.5, -1.0, 1.0)


def _matrix(a: Tensor, b: Tensor, tx: Tensor, c: Tensor, d: Tensor, ty: Tensor) -> Tensor:
    return torch.stack([a, b, tx, c, d, ty], 1).view(-1, 2, 3)


def _scaled(x: Tensor, y: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return _matrix(x, zero, zero, zero, y, zero)


def hflip(s: Tensor, u: Tensor, aspect: float) -> Tensor:
    """Swap left and right wherever the strength is above 0."""
    return _scaled(torch.where(s > 0, -1.0, 1.0), torch.ones_like(s))


def vflip(s: Tensor, u: Tensor, aspect: float) -> Tensor:
    """Swap top and bottom wherever the strength is above 0."""
    return _scaled(torch.ones_like(s), torch.where(s > 0, -1.0, 1.0))


def rotate(s: Tensor, u: Tensor, aspect: float) -> Tensor:
    """Turn by ``s`` times 180 degrees, either way."""
    angle = math.pi * s * signs(u[:, 0])
    zero = torch.zeros_like(s)
    return _matrix(angle.cos(), -angle.sin() * aspect, zero, angle.sin() / aspect, angle.cos(), zero)


def translate(s: Tensor, u: Tensor, aspect: float) -> Tensor:
    """Move by ``s`` times half the side in any direction."""
    direction = 2 * math.pi * u[:, 0]
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    return _matrix(one, zero, s * direction.cos(), zero, one, s * direction.sin())


def crop(s: Tensor, u: Tensor, aspect: float) -> Tensor:
    """Show a window whose sides are ``1 - 0.75 s`` of the image's, anywhere in it."""
    side = 1 - 0.75 * s
    zero = torch.zeros_like(s)
    tx, ty = ((1 - side)[:, None] * (2 * u - 1)).unbind(1)
    return _matrix(side, zero, tx, zero, side, ty)


def shear(s: Tensor, u: Tensor, aspect: float) -> Tensor:
    """Slant by a slope of ``s``, along x or along y."""
    slope = s * signs(u[:, 0])
    along_x = u[:, 1] < 0.5
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    across = torch.where(along_x, slope * aspect, zero)
    down = torch.where(along_x, zero, slope / aspect)
    return _matrix(one, across, zero, down, one, zero)


def zoom(s: Tensor, u: Tensor, aspect: float) -> Tensor:
    """Show everything ``2 ** s`` times larger or smaller."""
    side = 2 ** (s * signs(u[:, 0]))
    return _scaled(side, side)


def stretch(s: Tensor, u: Tensor, aspect: float) -> Tensor:
    """Make width over height ``2 ** s`` times larger or smaller at the same area."""
    root = 2 ** (0.5 * s * signs(u[:, 0]))
    return _scaled(root, 1 / root)


def window(u: Tensor, scale: tuple[float, float], ratio: tuple[float, float], aspect: float) -> Tensor:
    """Draw windows of a random share of the area and a random shape (random-resized-crop), as affine maps.

    Of several windows drawn for an image the first that fits into it counts; if none does, the last is trimmed.

    Args:
        u: Uniform numbers, (N, 2 + 2 * tries).
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest width / height of the window, in pixels.
        aspect: Height / width of the image.
    """
    place, tries = u[:, :2], torch.unflatten(u[:, 2:], 1, (-1, 2))
    area = scale[0] + (scale[1] - scale[0]) * tries[..., 0]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + (high - low) * tries[..., 1]) * aspect
    sides = torch.stack([(area * shape).sqrt(), (area / shape).sqrt()], 2)
    fits = (sides <= 1).all(2)
    fits[:, -1] = True
    first = fits.int().argmax(1)
    side = sides[torch.arange(len(u)), first].clamp_max(1)
    shift = (1 - side) * (2 * place - 1)
    zero = torch.zeros(len(u))
    return _matrix(side[:, 0], zero, shift[:, 0], zero, side[:, 1], shift[:, 1])
