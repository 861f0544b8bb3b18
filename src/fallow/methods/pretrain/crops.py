"""Crops: plain ones; and multi-crop, two views of most of an image, and several small ones of parts of it (Caron et al. 2020, arXiv 2006.09882)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fallow.augment import Policy, paper_views, resized_crop_policy
from fallow.methods.base import Views
from fallow.methods.pretrain.base import PretrainMethod

_SMALLEST = 64
_LOCAL = 96 / 224
"""Side of a small crop, as a share of that of a large one."""


def plain_crops(size: int, gray: bool, flips: Sequence[str]) -> Policy:
    """Return a resized crop of a fifth of the image or more, and flips: what methods want that have a puzzle of their own."""
    return resized_crop_policy(
        (0.2, 1.0),
        jitter_share=0.0,
        gray_share=0.0,
        blur_share=0.0,
        flips=flips,
        gray=gray,
        size=(size, size),
        name="crop",
    )


class PlainCrop(PretrainMethod):
    """A method that sees one view of an image, a resized crop with flips: what it is asked is noise enough."""

    views = Views(labeled=(), unlabeled=("first",))

    def augmentations(
        self, size: int, *, gray: bool = False, flips: Sequence[str] = ("hflip",)
    ) -> dict[str, Policy]:
        """Return a resized crop and flips."""
        return {"first": plain_crops(size, gray, flips)}


class MultiCrop(PretrainMethod):
    """A method that sees two large crops, and ``local_crops`` small ones of fewer pixels, which cost a fifth of a large one.

    Args:
        local_crops: Small crops of each image; None: ``papers_crops``, and none where images have fewer than 64 pixels a side, whose
            small crops would show next to nothing.
    """

    papers_crops: ClassVar[int] = 6

    several_sizes = True
    scales: ClassVar[tuple[tuple[float, float], tuple[float, float]] | None] = None
    """Shares of the area of large and small crops, with SimCLR's colors; None: all as ``recipe`` has it."""

    def __init__(self, *, local_crops: int | None) -> None:
        super().__init__()
        self.local_crops = local_crops
        self.views = _views(self.papers_crops if local_crops is None else local_crops)

    def make(self, dim: int) -> None:
        """Settle which views there are; methods make their parts after that."""
        if self.local_crops is None and self.size is not None and self.size < _SMALLEST:
            self.views = _views(0)

    def augmentations(
        self, size: int, *, gray: bool = False, flips: Sequence[str] = ("hflip",)
    ) -> dict[str, Policy]:
        """Return what is done to an image, by name of the view; to be asked for after `build`, which tells of tokens."""
        side = self._local_side(size)
        large, small = (size, size), (side, side)
        if self.scales is None:
            first, second, local = paper_views(
                self.recipe, flips=flips, gray=gray, size=large, local_size=small
            )
            return {"first": first, "second": second, "local": local}
        globally, local = (
            paper_views("simclr", flips=flips, gray=gray, size=at, scale=scale)[0]
            for scale, at in zip(self.scales, (large, small), strict=True)
        )
        return {"first": globally, "second": globally, "local": local}

    def _local_side(self, size: int) -> int:
        """Return the side of small crops: whole tokens of a transformer, even numbers elsewhere."""
        unit = 2 if self.tokens is None else self.tokens.patch
        return max(unit, round(size * _LOCAL / unit) * unit)


def _views(local_crops: int) -> Views:
    return Views(labeled=(), unlabeled=("first", "second", *["local"] * local_crops))
