"""What may change in an image: batched, on any device, deterministic from a generator.

Every transform takes a *strength* in 0..1, one number or one for each image, and has a documented physical
range: 0 changes nothing, 1 is the far end. Geometric transforms are affine maps; several are composed first
and resampled once (`apply_all`), so that an image is not blurred by each. The affine comes back with the
images, so that dense units and boxes can follow: it maps the view's normalized coordinates (x right, y down,
both in -1..1) to those of the source, the convention of ``torch.nn.functional.affine_grid``.

Everything random is a table of uniform numbers, drawn on the CPU, one row per image. So an image's fate does
not depend on its neighbors in the batch, all devices draw the same, and a transform need only touch the images
that drew it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from fallow.augment import geometric, photometric
from fallow.augment.photometric import send

Kind = Literal["geometric", "photometric"]
Strength: TypeAlias = "float | Tensor"
Size: TypeAlias = tuple[int, int]
_Place: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]
"""(strengths (N,), uniform numbers (N, draws), height / width) -> affine (N, 2, 3)."""
_Tint: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(strengths, uniform numbers) -> (N, 3, 6), see `photometric`."""
_Paint: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (N, C, H, W), which may be written to, strengths, uniform numbers) -> images."""
_TINY = 36  # px of the shorter side up to which bilinear resampling visibly blurs what there is


@dataclass(frozen=True)
class Transform:
    """One way to change an image.

    Attributes:
        name: Its name in `TRANSFORMS`.
        kind: ``geometric`` (an affine map) or ``photometric`` (pixels stay in place).
        range: What strengths from 0 to 1 mean, in words.
        graded: False when there is only one strength: any above 0 applies the transform in full.
        draws: Uniform numbers that it needs for each image.
        place: Makes the affine maps of a geometric transform.
        tint: Makes the color matrices of a photometric transform that is linear in color.
        paint: Changes the pixels of any other photometric transform.
    """

    name: str
    kind: Kind
    range: str
    graded: bool = True
    draws: int = 0
    place: _Place | None = None
    tint: _Tint | None = None
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


@dataclass(frozen=True)
class Drawn:
    """A transform with what was drawn for it, on the CPU.

    Attributes:
        transform: The transform.
        strengths: (N,); 0 leaves the image alone.
        u: Uniform numbers (N, draws).
    """

    transform: Transform
    strengths: Tensor
    u: Tensor


def apply_all(
    x: Tensor, steps: Sequence[tuple[Transform, Strength]], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Apply several transforms: all geometric ones as one affine, resampled once, then the photometric in
    order, neighboring ones that are linear in color as one matrix.

    Args and return values are those of `Transform.apply`.
    """
    check_images(x)
    n = len(x)
    drawn = [
        Drawn(step, _strengths(strength, n), torch.rand(n, step.draws, generator=generator))
        for step, strength in steps
    ]
    affine = place_all(identity(n), drawn, x.shape[2] / x.shape[3])
    return paint_all(move(x, affine), drawn, fresh=False), send(affine, x)


def check_images(x: Tensor) -> None:
    """Raise ValueError unless ``x`` is float (N, 3, H, W)."""
    if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        raise ValueError(f"images should be float (N, 3, H, W), not {x.dtype} {tuple(x.shape)}")


def place_all(affine: Tensor, drawn: Iterable[Drawn], aspect: float) -> Tensor:
    """Return ``affine`` followed by the geometric ones of ``drawn``, in order, (N, 2, 3) on the CPU."""
    for one in drawn:
        if one.transform.place is not None and bool(one.strengths.any()):
            affine = compose(affine, one.transform.place(one.strengths, one.u, aspect))
    return affine


def move(x: Tensor, affine: Tensor, size: Size | None = None) -> Tensor:
    """Resample images through CPU affine maps; ``x`` itself where no pixel moves."""
    if size not in (None, tuple(x.shape[2:])):
        return warp(x, send(affine, x), size)
    if bool((affine == identity(1)).all()):
        return x
    turned = (~onto_pixels(affine, x.shape[2], x.shape[3])).nonzero()[:, 0]
    if len(turned) == len(x):
        return warp(x, send(affine, x))
    view = _rearrange(x, affine)
    if len(turned):
        rows = send(turned, x)
        view.index_copy_(0, rows, warp(x.index_select(0, rows), send(affine[turned], x)))
    return view


def _rearrange(x: Tensor, affine: Tensor) -> Tensor:
    """Move images through CPU maps for which `onto_pixels` holds: no interpolation, only other rows and columns."""
    n, channels, height, width = x.shape
    rows, columns = _sources(affine, 1, height), _sources(affine, 0, width)
    rows, columns = send(rows, x), send(columns, x)
    first = torch.arange(n * channels, device=x.device).view(n, channels, 1) * height
    moved = x.reshape(-1, width).index_select(0, (first + rows[:, None]).flatten())
    index = columns[:, None].expand(-1, channels * height, -1)
    return moved.view(n, -1, width).gather(2, index).view_as(x)


def _sources(affine: Tensor, axis: int, size: int) -> Tensor:
    """Return which of ``size`` pixels along an axis each pixel of the view comes from, mirrored in, (N, size)."""
    center = affine[:, axis, axis, None] * _centers(size, affine.device) + affine[:, axis, 2:]
    pixel = (((center + 1) * size - 1) / 2).round().long() % (2 * size)
    return torch.where(pixel < size, pixel, 2 * size - 1 - pixel)


def onto_pixels(affine: Tensor, height: int, width: int) -> Tensor:
    """Return which maps (N, 2, 3) only mirror and shift by whole pixels, (N,)."""
    straight = (affine[:, :, :2].abs() == torch.eye(2)).all(2).all(1)
    pixels = affine[:, :, 2] * torch.tensor([width / 2, height / 2])
    return straight & ((pixels - pixels.round()).abs() < 1e-3).all(1)


def paint_all(x: Tensor, drawn: Sequence[Drawn], fresh: bool) -> Tensor:
    """Apply the photometric ones of ``drawn`` in order, each to the images that drew it.

    Args:
        x: Images (N, C, H, W).
        drawn: What was drawn; geometric ones are passed over.
        fresh: Whether ``x`` may be written to.
    """
    for same, group in groupby(drawn, key=lambda one: one.transform.tint is not None):
        for many in [list(group)] if same else [[one] for one in group if one.transform.paint is not None]:
            x, fresh = _on_rows(x, many, fresh)
    return x


def _on_rows(x: Tensor, drawn: list[Drawn], fresh: bool) -> tuple[Tensor, bool]:
    """Apply one paint, or several tints as one, to those images where any strength is above 0."""
    hit = torch.stack([one.strengths > 0 for one in drawn]).any(0)
    rows = hit.nonzero()[:, 0]
    if not len(rows):
        return x, fresh
    if not fresh:
        x = x.clone(memory_format=torch.contiguous_format)
    if len(rows) == len(x):
        return _change(x, drawn).clamp_(0, 1), True
    chosen = [Drawn(one.transform, one.strengths[rows], one.u[rows]) for one in drawn]
    index = send(rows, x)
    changed = _change(x.index_select(0, index), chosen).clamp_(0, 1)
    return x.index_copy_(0, index, changed), True


def _change(x: Tensor, drawn: list[Drawn]) -> Tensor:
    """Return changed images; ``x`` may be written to."""
    first = drawn[0]
    if first.transform.paint is not None:
        return first.transform.paint(x, first.strengths, first.u)
    tint = photometric.blank(len(x))
    for one in drawn:
        assert one.transform.tint is not None
        tint = photometric.then(tint, one.transform.tint(one.strengths, one.u))
    return photometric.apply_tint(x, tint)


def identity(n: int) -> Tensor:
    """Return n affine maps that change nothing, (n, 2, 3)."""
    return torch.eye(2, 3).repeat(n, 1, 1)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the affine of ``first``, then ``second`` on the images; all view to source, (N, 2, 3)."""
    turn = first[:, :, :2] @ second[:, :, :2]
    shift = first[:, :, :2] @ second[:, :, 2:] + first[:, :, 2:]
    return torch.cat([turn, shift], 2)


def warp(x: Tensor, affine: Tensor, size: Size | None = None) -> Tensor:
    """Resample images (N, C, H, W) through view-to-source affine maps (N, 2, 3); what lies outside is
    mirrored in.

    Mirrored, because a black border would be a feature of its own to a pretrained network. Bicubic for tiny
    images: bilinear weights halve the contrast of a one-pixel stroke, and a digit of 8 px has no other.

    Args:
        x: Float images.
        affine: Maps on the same device.
        size: Height and width of the view; those of the images if not given.
    """
    tiny = min(x.shape[2:]) <= _TINY
    view = _sample(x, affine, size or (x.shape[2], x.shape[3]), "bicubic" if tiny else "bilinear")
    return view.clamp_(0, 1) if tiny else view


def _sample(x: Tensor, affine: Tensor, size: Size, mode: str) -> Tensor:
    # The grid of affine_grid, as one broadcast sum of a column and a row: many times faster on a CPU.
    affine = affine.float()
    across = affine[:, None, :, 0] * _centers(size[1], x.device)[:, None]
    down = affine[:, None, :, 1] * _centers(size[0], x.device)[:, None] + affine[:, None, :, 2]
    grid = down[:, :, None] + across[:, None]
    view = functional.grid_sample(x.float(), grid, mode=mode, padding_mode="reflection", align_corners=False)
    return view.to(x.dtype)


def _centers(size: int, device: torch.device) -> Tensor:
    """Return the centers of pixels in -1..1."""
    return (2 * torch.arange(size, device=device, dtype=torch.float32) + 1) / size - 1


def _strengths(strength: Strength, n: int) -> Tensor:
    values = torch.as_tensor(strength, dtype=torch.float32).cpu().expand(n)
    if n and (float(values.min()) < 0 or float(values.max()) > 1):
        raise ValueError(f"strength should be in 0..1, not {float(values.min()):g}..{float(values.max()):g}")
    return values


def _geometric(name: str, place: _Place, physical: str, draws: int = 1, graded: bool = True) -> Transform:
    return Transform(name, "geometric", physical, graded, draws, place=place)


def _tint(name: str, tint: _Tint, physical: str, draws: int = 1) -> Transform:
    return Transform(name, "photometric", physical, True, draws, tint=tint)


def _paint(name: str, paint: _Paint, physical: str, draws: int = 0) -> Transform:
    return Transform(name, "photometric", physical, True, draws, paint=paint)


TRANSFORMS: dict[str, Transform] = {
    transform.name: transform
    for transform in (
        _geometric("hflip", geometric.hflip, "left and right swapped", draws=0, graded=False),
        _geometric("vflip", geometric.vflip, "top and bottom swapped", draws=0, graded=False),
        _geometric("rotate", geometric.rotate, "turned by 0 to 180 degrees, either way"),
        _geometric("translate", geometric.translate, "moved by 0 to half the side, any direction"),
        _geometric("crop", geometric.crop, "a window of 100 down to 25 % of the side, anywhere", draws=2),
        _geometric("shear", geometric.shear, "slanted by 0 to 45 degrees, along x or y", draws=2),
        _geometric("zoom", geometric.zoom, "shown 1 to 2 times larger or smaller"),
        _geometric("stretch", geometric.stretch, "width over height times 1 to 2 or 1/2"),
        _tint("brightness", photometric.brightness, "times 1 to 0.2 or 1.8"),
        _tint("contrast", photometric.contrast, "times 1 to 0.1 or 1.9, around the mean"),
        _tint("saturation", photometric.saturation, "times 1 to 0 or 2"),
        _tint("hue", photometric.hue, "colors turned by 0 to 180 degrees, either way"),
        _tint("gray", photometric.gray, "0 to 100 % of the color removed", draws=0),
        _paint("blur", photometric.blur, "Gaussian of sigma 0 to 1/24 of the longer side"),
        _paint("sharpness", photometric.sharpness, "details times 1 to 0.1 or 1.9", draws=1),
        _paint("noise", photometric.noise, "Gaussian noise of 0 to 0.4 of the full scale", draws=1),
        _paint("cutout", photometric.cutout, "a rectangle of 0 to 75 % of the sides, mean color", draws=2),
        _paint("solarize", photometric.solarize, "pixels above 1 down to 0 inverted; all of them at 1"),
        _paint("posterize", photometric.posterize, "8 down to 1 bit per channel"),
        _paint("autocontrast", photometric.autocontrast, "0 to 100 % of the way to the full range"),
        _paint("equalize", photometric.equalize, "0 to 100 % of the way to an even histogram"),
    )
}
"""All transforms by name. Strength 0 changes nothing, 1 is the end."""
COLOR_ONLY = frozenset({"hue", "gray", "saturation"})
"""Transforms that leave gray images as they are."""
