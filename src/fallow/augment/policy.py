"""Policies: what a training step does to a batch of images, drawn anew at each call.

A policy is a list of *draws* over the transforms of the room, with a window and a shift in front. All that moves
pixels is composed and resampled once for the whole batch; every photometric transform runs on the images that drew
it and on no other. All randomness comes from a CPU generator, row by row, so that an image's fate depends neither
on the device nor on its neighbors (only the order of photometric transforms is drawn per batch), and nothing
waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fallow.augment import geometric
from fallow.augment.photometric import send
from fallow.augment.transforms import (
    TRANSFORMS,
    Drawn,
    Transform,
    check_images,
    identity,
    move,
    paint_all,
    place_all,
)

_TRIES = 5  # windows drawn for an image until one fits into it
_IN_WORDS: dict[str, Callable[[float], str]] = {
    "rotate": lambda s: f"rotate by {180 * s:.0f} degrees",
    "translate": lambda s: f"translate by {50 * s:.0f} % of the side",
    "crop": lambda s: f"crop to {100 - 75 * s:.0f} % of the side",
    "shear": lambda s: f"shear by a slope of {s:.2g}",
    "zoom": lambda s: f"zoom by {2**s:.2g}",
    "stretch": lambda s: f"stretch by {2**s:.2g}",
    "brightness": lambda s: f"brightness by {80 * s:.0f} %",
    "contrast": lambda s: f"contrast by {90 * s:.0f} %",
    "saturation": lambda s: f"saturation by {100 * s:.0f} %",
    "sharpness": lambda s: f"sharpness by {90 * s:.0f} %",
    "hue": lambda s: f"hue by {180 * s:.0f} degrees",
    "blur": lambda s: f"blur of {100 * s / 24:.2g} % of the side",
    "noise": lambda s: f"noise of {40 * s:.2g} %",
    "cutout": lambda s: f"cutout of {75 * s:.0f} % of the side",
    "solarize": lambda s: f"solarize above {100 - 100 * s:.0f} %",
    "posterize": lambda s: f"posterize to {8 - round(7 * s)} bits",
}
"""How far a strength goes, in words; for all others in percent."""


@dataclass(frozen=True)
class Draw:
    """Transforms that an image may get together.

    Attributes:
        limits: Transform -> greatest strength.
        probability: Share of the images that get any.
        picks: How many of the transforms each of them gets, all different; None: all of them.
        least: Smallest strength, as a share of the greatest; between the two it is uniform.
    """

    limits: Mapping[str, float]
    probability: float = 1.0
    picks: int | None = None
    least: float = 0.0

    def __post_init__(self) -> None:
        for name, strength in self.limits.items():
            if name not in TRANSFORMS:
                raise ValueError(f"'{name}' is not a transform; there are {', '.join(TRANSFORMS)}")
            within_one(name, strength)
        within_one("probability", self.probability)
        within_one("least", self.least)
        if self.picks is not None and self.picks < 0:
            raise ValueError(f"picks should be 0 or more, not {self.picks}")

    def draw(self, n: int, generator: torch.Generator) -> list[Drawn]:
        """Draw strengths, directions and the order for n images."""
        transforms = [TRANSFORMS[name] for name in self.limits]
        k = len(transforms)
        if not k:
            return []
        widths = [1, k, k, *(t.draws for t in transforms)]
        gate, rank, level, *own = torch.rand(n, sum(widths), generator=generator).split_with_sizes(widths, 1)
        order = torch.randperm(k, generator=generator).tolist()
        chosen = gate < self.probability
        if self.picks is not None and self.picks < k:
            chosen = chosen & (rank.argsort(1).argsort(1) < self.picks)
        most = torch.tensor([self.limits[t.name] for t in transforms])
        graded = torch.tensor([t.graded for t in transforms])
        strengths = most * (self.least + (1 - self.least) * level)
        strengths = torch.where(graded, strengths, (most > 0).float()) * chosen
        return [Drawn(transforms[i], strengths[:, i], own[i]) for i in _tints_together(transforms, order)]


@dataclass(frozen=True)
class Window:
    """Random-resized-crop: a window of a random area and shape, resized to the whole image.

    Attributes:
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width / height.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale should be two rising numbers in 0..1, not {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio should be two rising numbers above 0, not {self.ratio}")


@dataclass(frozen=True)
class Policy:
    """A policy: window, shift, then the draws in order.

    Attributes:
        name: What it is called in logs.
        draws: Draws over transforms.
        shift: Greatest shift along each side, as a share of it. Whole pixels, so that nothing is blurred.
        window: Random-resized-crop, if any.
        size: Height and width of the result, in pixels; None: those of the images.
        gray: The images are gray (three equal channels): one is computed, at a third of the cost.
    """

    name: str
    draws: tuple[Draw, ...] = ()
    shift: float = 0.0
    window: Window | None = None
    size: tuple[int, int] | None = None
    gray: bool = False

    def __post_init__(self) -> None:
        within_one("shift", self.shift)

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return augmented images and where their pixels came from.

        Args:
            images: Float images in 0..1, (n, 3, h, w), on any device; they are not changed.
            generator: CPU generator.

        Returns:
            Images (n, 3, *size) on the same device, not to be written to (channels of gray ones share their
            memory), and their affine maps (n, 2, 3) from view to source.

        Raises:
            ValueError: ``images`` is not float (n, 3, h, w).
        """
        check_images(images)
        n, _, height, width = images.shape
        out = self.size or (height, width)
        affine = self._frame(n, height / width, out, generator)
        drawn = [one for draw in self.draws for one in draw.draw(n, generator)]
        affine = place_all(affine, drawn, height / width)
        if out == (height, width):
            affine = _whole_pixels(affine, out)
        view = images[:, :1] if self.gray else images
        moved = move(view, affine, out)
        view = paint_all(moved, drawn, fresh=moved is not view)
        return view.expand(-1, 3, -1, -1) if self.gray else view, send(affine, images)

    def _frame(self, n: int, aspect: float, out: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Draw window and shift as affine maps."""
        affine = identity(n)
        if self.window is not None:
            u = torch.rand(n, 2 + 2 * _TRIES, generator=generator)
            affine = geometric.window(u, self.window.scale, self.window.ratio, aspect)
        side = torch.tensor([out[1], out[0]])
        most = (self.shift * side).floor()
        if bool(most.any()):
            u = torch.rand(n, 2, generator=generator)
            pixels = (u * (2 * most + 1)).floor() - most
            affine = affine.clone()
            affine[:, :, 2:] += affine[:, :, :2] @ (2 * pixels / side)[:, :, None]
        return affine

    def capped(self, limits: Mapping[str, float]) -> Policy:
        """Return the policy with no transform stronger than its limit; those without a limit are left out.

        The shift is capped by ``translate``, the window by ``crop``.
        """
        draws = []
        for draw in self.draws:
            kept = {name: min(most, limits[name]) for name, most in draw.limits.items() if limits.get(name)}
            if kept:
                draws.append(replace(draw, limits=kept))
        window, crop = self.window, limits.get("crop", 0.0)
        if window is not None:
            smallest = max(window.scale[0], (1 - 0.75 * crop) ** 2)
            window = Window((smallest, max(smallest, window.scale[1])), window.ratio) if crop else None
        shift = min(self.shift, 0.5 * limits.get("translate", 0.0))
        return replace(self, draws=tuple(draws), shift=shift, window=window)

    def describe(self) -> str:
        """Say in plain words what the policy does to an image."""
        parts = []
        if self.window is not None:
            low, high = (f"{100 * s:.0f}" for s in self.window.scale)
            parts.append(f"a window of {low} to {high} % of the area, resized")
        if self.shift:
            parts.append(f"a shift of up to {100 * self.shift:g} % of the side")
        parts += [_said(draw) for draw in self.draws if draw.limits]
        return "; ".join(parts) if parts else "nothing"

    def to_json(self) -> dict[str, Any]:
        """Return the policy as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Policy:
        """Return the policy that `to_json` wrote."""
        plain = dict(values)
        window, size = plain.pop("window", None), plain.pop("size", None)
        return cls(
            draws=tuple(Draw(**draw) for draw in plain.pop("draws", ())),
            window=Window(tuple(window["scale"]), tuple(window["ratio"])) if window else None,
            size=(int(size[0]), int(size[1])) if size else None,
            **plain,
        )


def within_one(name: str, value: float) -> None:
    """Raise ValueError unless the value is in 0..1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} should be in 0..1, not {value:g}")


def _tints_together(transforms: Sequence[Transform], order: list[int]) -> list[int]:
    """Return ``order`` with all tints moved to where the first of them is, so that they cost one pass."""
    tints = [i for i in order if transforms[i].tint is not None]
    if not tints:
        return order
    at = order.index(tints[0])
    rest = [i for i in order if i not in tints]
    return [*rest[:at], *tints, *rest[at:]]


def _whole_pixels(affine: Tensor, size: tuple[int, int]) -> Tensor:
    """Round the shift of maps that neither turn nor scale to whole pixels: then resampling blurs nothing."""
    straight = (affine[:, :, :2].abs() == torch.eye(2)).all(2).all(1)
    half = torch.tensor([size[1] / 2, size[0] / 2])
    rounded = affine.clone()
    rounded[:, :, 2] = (affine[:, :, 2] * half).round() / half
    return torch.where(straight[:, None, None], rounded, affine)


def _said(draw: Draw) -> str:
    """Say what a draw does: "2 of: rotate by 30 degrees, ..., each up to that"."""

    def amount(name: str, s: float) -> str:
        if not TRANSFORMS[name].graded:
            return name
        return _IN_WORDS[name](s) if name in _IN_WORDS else f"{name} of {100 * s:.0f} %"

    what = ", ".join(amount(name, s) for name, s in draw.limits.items())
    if draw.picks is not None and draw.picks < len(draw.limits):
        what = f"{draw.picks} of: {what}"
    if draw.least < 1 and any(TRANSFORMS[name].graded for name in draw.limits):
        what += ", each at most" if len(draw.limits) > 1 else " at most"
    return what if draw.probability == 1 else f"for {100 * draw.probability:.0f} % of the images {what}"
