"""What may change in an image: batched, on any device, deterministic from a generator.

Every transform takes a *strength* in 0..1, one number or one for each image, and has a documented physical
range: 0 changes nothing, 1 is the far end. Geometric transforms are affine maps; several are composed first
and resampled once (`apply_all`), so that an image is not blurred by each. The affine comes back with the
images, so that dense units and boxes can follow: it maps the view's normalized coordinates (x right, y down,
both in -1..1) to those of the source, the convention of ``torch.nn.functional.affine_grid``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["geometric", "photometric"]
Strength: TypeAlias = "float | Tensor"
_Place: TypeAlias = Callable[[Tensor, float, torch.Generator], Tensor]
"""(strengths (N,), height / width, generator) -> affine (N, 2, 3)."""
_Paint: TypeAlias = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""(images (N, 3, H, W), strengths (N,), generator) -> images."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Transform:
    """One way to change an image.

    Attributes:
        name: Its name in `TRANSFORMS`.
        kind: ``geometric`` (an affine map) or ``photometric`` (pixels stay in place).
        range: What strengths from 0 to 1 mean, in words.
        graded: False when there is only one strength: any above 0 applies the transform in full.
        place: Draws the affine maps of a geometric transform.
        paint: Changes the pixels of a photometric transform.
    """

    name: str
    kind: Kind
    range: str
    graded: bool = True
    place: _Place | None = None
    paint: _Paint | None = None

    def apply(self, x: Tensor, strength: Strength, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the changed images and where their pixels came from.

        Args:
            x: Float images in 0..1, (N, 3, H, W).
            strength: 0..1, one number or (N,). Directions (left or right, brighter or darker) are drawn per
                image.
            generator: Source of everything random; on the CPU, so that all devices draw the same.

        Returns:
            Images like ``x``, and the affine (N, 2, 3) from view to source, identity for photometric ones.

        Raises:
            ValueError: ``x`` is not (N, 3, H, W), or a strength is outside of 0..1.
        """
        return apply_all(x, [(self, strength)], generator)


def apply_all(
    x: Tensor, steps: Sequence[tuple[Transform, Strength]], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Apply several transforms: all geometric ones as one affine, resampled once, then the photometric in
    order.

    Args and return values are those of `Transform.apply`.
    """
    if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        raise ValueError(f"images should be float (N, 3, H, W), not {x.dtype} {tuple(x.shape)}")
    drawn = [(step, _strengths(strength, len(x))) for step, strength in steps]
    if not len(x):
        return x, identity(0).to(x.device)
    affine, moved = identity(len(x)), False
    for step, strengths in drawn:
        if step.place is not None:
            affine, moved = compose(affine, step.place(strengths, x.shape[2] / x.shape[3], generator)), True
    if moved:
        x = warp(x, affine.to(x.device))
    for step, strengths in drawn:
        if step.paint is not None:
            x = step.paint(x, strengths.to(x.device, x.dtype), generator).clamp(0, 1)
    return x, affine.to(x.device)


def identity(n: int) -> Tensor:
    """Return n affine maps that change nothing, (n, 2, 3)."""
    return torch.eye(2, 3).repeat(n, 1, 1)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the affine of ``first``, then ``second`` on the images; all view to source, (N, 2, 3)."""
    turn = first[:, :, :2] @ second[:, :, :2]
    shift = first[:, :, :2] @ second[:, :, 2:] + first[:, :, 2:]
    return torch.cat([turn, shift], 2)


def warp(x: Tensor, affine: Tensor) -> Tensor:
    """Resample images (N, C, H, W) through view-to-source affine maps (N, 2, 3); what lies outside is
    mirrored in.

    Mirrored, because a black border would be a feature of its own to a pretrained network.
    """
    grid = functional.affine_grid(affine.to(x.dtype), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _strengths(strength: Strength, n: int) -> Tensor:
    values = torch.as_tensor(strength, dtype=torch.float32).cpu().expand(n)
    if n and (float(values.min()) < 0 or float(values.max()) > 1):
        raise ValueError(f"strength should be in 0..1, not {float(values.min()):g}..{float(values.max()):g}")
    return values


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator)


def _signs(n: int, generator: torch.Generator) -> Tensor:
    """Return n times -1 or 1."""
    return torch.where(_uniform(n, generator) < 0.5, -1.0, 1.0)


def _matrix(a: Tensor, b: Tensor, tx: Tensor, c: Tensor, d: Tensor, ty: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b, tx], 1), torch.stack([c, d, ty], 1)], 1)


# Geometric: each draws view-to-source maps in normalized coordinates. A turn in pixels is not a turn there
# unless the image is square, hence the aspect.


def _hflip(s: Tensor, aspect: float, generator: torch.Generator) -> Tensor:
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    return _matrix(torch.where(s > 0, -one, one), zero, zero, zero, one, zero)


def _vflip(s: Tensor, aspect: float, generator: torch.Generator) -> Tensor:
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    return _matrix(one, zero, zero, zero, torch.where(s > 0, -one, one), zero)


def _rotate(s: Tensor, aspect: float, generator: torch.Generator) -> Tensor:
    angle = math.pi * s * _signs(len(s), generator)
    zero = torch.zeros_like(s)
    return _matrix(angle.cos(), -angle.sin() * aspect, zero, angle.sin() / aspect, angle.cos(), zero)


def _translate(s: Tensor, aspect: float, generator: torch.Generator) -> Tensor:
    direction = 2 * math.pi * _uniform(len(s), generator)
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    return _matrix(one, zero, s * direction.cos(), zero, one, s * direction.sin())


def _crop(s: Tensor, aspect: float, generator: torch.Generator) -> Tensor:
    side = 1 - 0.75 * s
    zero = torch.zeros_like(s)
    tx = (1 - side) * (2 * _uniform(len(s), generator) - 1)
    ty = (1 - side) * (2 * _uniform(len(s), generator) - 1)
    return _matrix(side, zero, tx, zero, side, ty)


def _shear(s: Tensor, aspect: float, generator: torch.Generator) -> Tensor:
    slope = s * _signs(len(s), generator)
    along_x = _uniform(len(s), generator) < 0.5
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    across = torch.where(along_x, slope * aspect, zero)
    down = torch.where(along_x, zero, slope / aspect)
    return _matrix(one, across, zero, down, one, zero)


# Photometric: strengths come as (N,) on the images' device.


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _gray_of(x: Tensor) -> Tensor:
    """Return the luma of the images, (N, 1, H, W) (ITU-R BT.601, as PIL does it)."""
    return (x * x.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _factor(s: Tensor, generator: torch.Generator) -> Tensor:
    """Return 1 + s or 1 - s, drawn per image, as (N, 1, 1, 1)."""
    return _column(1 + s * _signs(len(s), generator).to(s))


def _brightness(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    return x * _factor(0.8 * s, generator)


def _contrast(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    middle = _gray_of(x).mean((2, 3), keepdim=True)
    return middle + (x - middle) * _factor(0.9 * s, generator)


def _saturation(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    gray = _gray_of(x)
    return gray + (x - gray) * _factor(s, generator)


def _gray(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    return x + (_gray_of(x) - x) * _column(s)


def _hue(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    # A turn of the chroma plane of YIQ: one 3x3 matrix per image, and brightness stays what it was.
    angle = math.pi * s * _signs(len(s), generator).to(s)
    to_yiq = x.new_tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    one, zero, cos, sin = torch.ones_like(s), torch.zeros_like(s), angle.cos(), angle.sin()
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return torch.einsum("nij,njhw->nihw", matrix, x)


def _blur(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    n, channels, height, width = x.shape
    largest = max(height, width) / 24
    radius = min(math.ceil(3 * largest), height - 1, width - 1)
    if radius < 1:
        return x
    sigma = (s * largest).clamp_min(1e-3)[:, None]
    offset = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-0.5 * (offset / sigma) ** 2, 1).repeat_interleave(channels, 0)
    flat = functional.pad(x.reshape(1, n * channels, height, width), [radius] * 4, mode="reflect")
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
    return flat.view_as(x)


def _noise(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    return x + torch.randn(x.shape, generator=generator).to(x) * _column(0.4 * s)


def _cutout(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    n, _, height, width = x.shape

    def inside(size: int) -> Tensor:
        side = 0.75 * s
        start = (1 - side) * _uniform(n, generator).to(s)
        where = (torch.arange(size, device=x.device, dtype=x.dtype) + 0.5) / size
        return (where[None] >= start[:, None]) & (where[None] < (start + side)[:, None])

    hole = inside(height)[:, None, :, None] & inside(width)[:, None, None, :]
    return torch.where(hole, x.mean((2, 3), keepdim=True), x)


def _solarize(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    bright = (x >= 1 - _column(s)) & (_column(s) > 0)
    return torch.where(bright, 1 - x, x)


def _posterize(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    steps = 2 ** (8 - (7 * _column(s)).round()) - 1
    return (x * steps).round() / steps


def _geometric(name: str, place: _Place, physical: str, graded: bool = True) -> Transform:
    return Transform(name, "geometric", physical, graded, place=place)


def _photometric(name: str, paint: _Paint, physical: str) -> Transform:
    return Transform(name, "photometric", physical, paint=paint)


TRANSFORMS: dict[str, Transform] = {
    transform.name: transform
    for transform in (
        _geometric("hflip", _hflip, "left and right swapped", graded=False),
        _geometric("vflip", _vflip, "top and bottom swapped", graded=False),
        _geometric("rotate", _rotate, "turned by 0 to 180 degrees, either way"),
        _geometric("translate", _translate, "moved by 0 to half the side, any direction"),
        _geometric("crop", _crop, "a window of 100 down to 25 % of the side, anywhere"),
        _geometric("shear", _shear, "slanted by 0 to 45 degrees, along x or y"),
        _photometric("brightness", _brightness, "times 1 to 0.2 or 1.8"),
        _photometric("contrast", _contrast, "times 1 to 0.1 or 1.9, around the mean"),
        _photometric("saturation", _saturation, "times 1 to 0 or 2"),
        _photometric("hue", _hue, "colors turned by 0 to 180 degrees, either way"),
        _photometric("gray", _gray, "0 to 100 % of the color removed"),
        _photometric("blur", _blur, "Gaussian of sigma 0 to 1/24 of the longer side"),
        _photometric("noise", _noise, "Gaussian noise of 0 to 0.4 of the full scale"),
        _photometric("cutout", _cutout, "a rectangle of 0 to 75 % of the sides filled with the mean color"),
        _photometric("solarize", _solarize, "pixels above 1 down to 0 inverted; all of them at 1"),
        _photometric("posterize", _posterize, "8 down to 1 bit per channel"),
    )
}
"""All transforms by name. Strength 0 changes nothing (posterize: rounds to 8 bit), 1 is the end."""
