"""Photometric transforms: pixels stay in place, their values change.

*Tints* are linear in color and come as matrices, so that any number of them costs one pass over the pixels: a
tint (N, 3, 6) is ``[A | B]``, and an image becomes ``A pixel + B mean``, where ``mean`` is its mean color.
*Paints* change the pixels themselves, in place where that spares an allocation. Strengths (N,) and uniform numbers (N, draws) lie on the CPU in both, so
that sizes which depend on them are known without waiting for the device. Images may have one channel (gray) or
three.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from fallow.augment.geometric import signs

_LUMA = torch.tensor([0.299, 0.587, 0.114])
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ.double()).float()


def send(values: Tensor, to: Tensor) -> Tensor:
    """Move a small CPU tensor to where ``to`` lies; through pinned memory, so that nobody waits for a GPU."""
    if to.device.type == "cuda":
        return values.pin_memory().to(to.device, non_blocking=True)
    return values.to(to.device)


def _column(values: Tensor, x: Tensor) -> Tensor:
    return send(values, x).to(x.dtype)[:, None, None, None]


# Tints.


def blank(n: int) -> Tensor:
    """Return n tints that change nothing, (n, 3, 6)."""
    return torch.eye(3, 6).repeat(n, 1, 1)


def _tint(now: Tensor, mean: Tensor | None = None) -> Tensor:
    now = now.expand(-1, 3, 3)
    return torch.cat([now, torch.zeros_like(now) if mean is None else mean.expand(-1, 3, 3)], 2)


def then(first: Tensor, second: Tensor) -> Tensor:
    """Return the tint that is ``first``, then ``second``."""
    (a, b), (c, d) = first.chunk(2, 2), second.chunk(2, 2)
    return torch.cat([c @ a, c @ b + d @ (a + b)], 2)


def apply_tint(x: Tensor, tint: Tensor) -> Tensor:
    """Change the colors of images (N, 1 or 3, H, W)."""
    (a, b), flat = tint.chunk(2, 2), x.flatten(2)
    uses_mean = bool(b.any())
    if x.shape[1] == 1:  # a gray pixel is three equal ones, and stays so under every tint
        a, b = a[:, :1].sum(2, keepdim=True), b[:, :1].sum(2, keepdim=True)
    a = send(a.contiguous(), x).to(x.dtype)
    if not uses_mean:
        return torch.bmm(a, flat).view_as(x)
    base = send(b.contiguous(), x).to(x.dtype) @ flat.mean(2, keepdim=True)
    return torch.baddbmm(base, a, flat).view_as(x)


def brightness(s: Tensor, u: Tensor) -> Tensor:
    """Multiply by 1 + 0.8 s or 1 - 0.8 s."""
    return _tint(torch.eye(3) * (1 + 0.8 * s * signs(u[:, 0]))[:, None, None])


def contrast(s: Tensor, u: Tensor) -> Tensor:
    """Multiply the distance from the mean luma by 1 + 0.9 s or 1 - 0.9 s."""
    change = (0.9 * s * signs(u[:, 0]))[:, None, None]
    return _tint(torch.eye(3) * (1 + change), -change * _LUMA)


def _blend_with_gray(factor: Tensor) -> Tensor:
    return _tint(torch.eye(3) * factor[:, None, None] + (1 - factor)[:, None, None] * _LUMA)


def saturation(s: Tensor, u: Tensor) -> Tensor:
    """Multiply the distance from gray by 1 + s or 1 - s."""
    return _blend_with_gray(1 + s * signs(u[:, 0]))


def gray(s: Tensor, u: Tensor) -> Tensor:
    """Remove the share ``s`` of the color."""
    return _blend_with_gray(1 - s)


def hue(s: Tensor, u: Tensor) -> Tensor:
    """Turn the chroma plane of YIQ by ``s`` times 180 degrees, either way; luma stays what it was."""
    angle = math.pi * s * signs(u[:, 0])
    one, zero, cos, sin = torch.ones_like(s), torch.zeros_like(s), angle.cos(), angle.sin()
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    return _tint(_FROM_YIQ @ turn @ _TO_YIQ)


# Paints.


def blur(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Blur with a Gaussian of ``s`` times 1/24 of the longer side."""
    n, channels, height, width = x.shape
    sigma = (s * max(height, width) / 24).clamp_min(1e-3)[:, None]
    reach = (3 * sigma).ceil()
    radius = min(int(reach.max()), height - 1, width - 1)
    if radius < 1:
        return x
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32)
    # Each image's kernel ends at three sigmas of its own, whoever else is in the batch.
    weights = torch.softmax((-0.5 * (offset / sigma) ** 2).masked_fill(offset.abs() > reach, -math.inf), 1)
    kernel = send(weights.repeat_interleave(channels, 0), x).to(x.dtype)
    flat = x.reshape(1, n * channels, height, width)
    flat = functional.pad(flat, [radius] * 4, mode="reflect")
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
    return flat.view_as(x)


def sharpness(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Move away from or toward a smoothed self, by up to 0.9 of the difference; the border stays."""
    if min(x.shape[2:]) < 3:
        return x
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = x[:, :, 1:-1, 1:-1]
    detail = (9 * inner - around) / 13  # inner less (around + 4 inner) / 13
    inner += detail * _column(0.9 * s * signs(u[:, 0]), x)
    return x


def noise(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Add noise of standard deviation 0.4 s: the sum of four random bytes, nearly Gaussian.

    A hash of pixel number and seed: the same on all devices, made where the image lies.
    """
    size = x[0].numel()
    seed = send((u[:, 0] * 2**24).int(), x)[:, None] * 0x3C6EF372
    z = torch.arange(size, dtype=torch.int32, device=x.device) + seed
    for shift, factor in ((16, 0x7FEB352D), (15, -0x7B935975)):
        z ^= (z >> shift) & ((1 << (32 - shift)) - 1)
        z *= factor
    z ^= (z >> 16) & 0xFFFF
    pairs = (z & 0x00FF00FF) + ((z >> 8) & 0x00FF00FF)
    total = ((pairs & 0xFFFF) + (pairs >> 16)).to(x.dtype).view_as(x)
    spread = 4 * (256**2 - 1) / 12
    return x.addcmul_(total - 510, _column(0.4 * s / spread**0.5, x))


def cutout(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Fill a rectangle of 0.75 s of both sides with the mean color."""

    def inside(size: int, start: Tensor) -> Tensor:
        side = 0.75 * s
        begin = ((1 - side) * start)[:, None]
        where = (torch.arange(size) + 0.5) / size
        return send((where >= begin) & (where < begin + side[:, None]), x)

    hole = inside(x.shape[2], u[:, 0])[:, None, :, None] & inside(x.shape[3], u[:, 1])[:, None, None, :]
    return torch.where(hole, x.mean((2, 3), keepdim=True), x, out=x)


def solarize(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Invert pixels above 1 - s."""
    edge = _column(torch.where(s > 0, 1 - s, 2.0), x)
    return torch.where(x >= edge, 1 - x, x, out=x)


def posterize(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Keep 8 down to 1 bits."""
    steps = _column(2 ** (8 - (7 * s).round()) - 1, x)
    return x.mul_(steps).round_().div_(steps)


def autocontrast(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Go the share ``s`` of the way to each channel's darkest being 0 and its brightest 1."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    wide = (high - low) > 1 / 255
    gain = torch.where(wide, 1 / (high - low).clamp_min(1e-6), 1.0)
    part = _column(s, x)
    return x.mul_(1 + part * (gain - 1)).sub_(part * torch.where(wide, low * gain, 0.0))


def equalize(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Go the share ``s`` of the way to each channel having all 256 levels equally often."""
    flat = x.flatten(2)
    level = (flat * 255).round().long()
    counts = x.new_zeros(*flat.shape[:2], 256).scatter_add_(2, level, torch.ones_like(flat))
    below = counts.cumsum(2) - counts
    # What lies below the brightest level that occurs becomes the full scale.
    top = below.gather(2, level.amax(2, keepdim=True))
    table = below / top.clamp_min(1)
    even = torch.where(top > 0, table.gather(2, level), flat).view_as(x)
    return x.lerp_(even, _column(s, x))
