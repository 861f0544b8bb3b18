"""``fallow find``: which embedded images are nearest to an image, and is the nearest near enough?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fallow.config import build
from fallow.config.gallery import GalleryConfig, LookupConfig
from fallow.errors import DataError
from fallow.types import JsonObject
from fallow.verbs.files import find_images
from fallow.verbs.watch import Watching

if TYPE_CHECKING:
    from torch import nn

    from fallow.data import PixelScale
    from fallow.models import Backbone
    from fallow.study.gallery import Near


@dataclass(frozen=True)
class Found:
    """What is near to one image.

    Attributes:
        path: The image that was asked about.
        match: Whether the nearest is near enough.
        label: Class of the nearest image that has one, among those near enough; None where nothing matches.
        near: The nearest images, nearest first.
        error: Why the image could not be read.
    """

    path: str
    match: bool = False
    label: str | None = None
    near: tuple[Near, ...] = ()
    error: str = ""


class Lookup:
    """What is near to images.

    Attributes:
        found: One for each image, in order.
        threshold: Cosine distance beyond which nothing matches; None: all match.
        meaning: What the threshold is, in words.
    """

    def __init__(self, found: Sequence[Found], threshold: float | None, meaning: str) -> None:
        self.found, self.threshold, self.meaning = list(found), threshold, meaning

    def __getitem__(self, number: int) -> Found:
        return self.found[number]

    def __len__(self) -> int:
        return len(self.found)

    def to_json(self) -> JsonObject:
        """Return everything as JSON."""
        return {
            "threshold": self.threshold,
            "meaning": self.meaning,
            "images": [{**asdict(one), "near": [asdict(near) for near in one.near]} for one in self.found],
        }

    def screen(self) -> str:
        """Return the nearest images for a terminal."""
        lines: list[str] = []
        for one in self.found:
            if one.error:
                said = f"cannot be read: {one.error}"
            else:
                said = (one.label or "match") if one.match else "no match"
            lines.append(f" {one.path}  {said}")
            lines += [
                f"   {near.distance:.3f}  {near.path}{f'  ({near.label})' if near.label else ''}"
                for near in one.near
            ]
        if self.meaning:
            lines += [
                "",
                *textwrap.wrap(
                    f"A match lies within {self.meaning}.", 100, initial_indent=" ", subsequent_indent=" "
                ),
            ]
        return "\n".join(lines) + "\n"


def find(
    images: str | Path | npt.NDArray[np.uint8] | Sequence[Any],
    index: str | Path,
    *,
    model: nn.Module | Backbone | None = None,
    show: str = "auto",
    offline: bool = False,
    **options: Any,
) -> Lookup:
    """Return the embedded images that are nearest to each image, and whether the nearest is near enough to be a match.

    Args:
        images: Files, folders, globs, or uint8 arrays (H, W, 3); one or several.
        index: The folder that ``fallow.embed`` wrote.
        model: The network that was handed in there, if one was.
        show: ``auto``: a bar on a terminal; ``nothing``: none.
        offline: Never reach for a model hub.
        **options: Fields of `fallow.config.gallery.LookupConfig`: ``k``, ``threshold``, ``precision``.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    from fallow.study.gallery import Gallery, ask, subject_of, threshold_of
    from fallow.verbs.embed import named_model

    config = build(LookupConfig, options, "the options")
    folder = Path(index)
    gallery = Gallery.read(folder)
    threshold, meaning = threshold_of(gallery, config)
    own = None if model is None else named_model("", model, GalleryConfig(size=gallery.made_by.parts[0][2]))
    readable, hashes, errors, order = _read(images, gallery.scale)
    if not order:
        raise DataError("there is no image to look up: give files, folders or globs")
    with Watching(enabled=show == "auto") as watching:
        near: list[list[Near]] = []
        if readable:
            subject = subject_of(gallery, folder, own, offline)
            near = ask(
                gallery, folder, subject, list(readable), hashes, readable.__getitem__, config.k, watching
            )
    answers = dict(zip(readable, near, strict=True))
    found = [
        Found(name, error=errors[name]) if name in errors else _found(name, answers[name], threshold)
        for name in order
    ]
    return Lookup(found, threshold, meaning)


def _found(name: str, near: list[Near], threshold: float | None) -> Found:
    within = [one for one in near if threshold is None or one.distance <= threshold]
    label = next((one.label for one in within if one.label is not None), None)
    return Found(name, bool(within), label, tuple(near))


def _read(
    images: Any, scale: PixelScale | None
) -> tuple[Mapping[str, npt.NDArray[np.uint8]], list[str], dict[str, str], list[str]]:
    """Return pixels by name, a hash of each, why others could not be read, and all names in order."""
    from fallow.data import ImageError, byte_hash, decode

    pixels: dict[str, npt.NDArray[np.uint8]] = {}
    hashes: list[str] = []
    errors: dict[str, str] = {}
    order: list[str] = []
    given = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
    for number, one in enumerate(given):
        if not isinstance(one, str | Path):
            name, array = f"image {number}", np.ascontiguousarray(one)
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
                raise DataError(
                    f"{name} is an array {array.shape} of {array.dtype}: give uint8 (height, width, 3)"
                )
            pixels[name] = array
            order.append(name)
            hashes.append(byte_hash(array.tobytes() + repr(array.shape).encode()))
            continue
        for path in find_images([one]):
            name = str(path)
            order.append(name)
            if name in pixels or name in errors:
                continue
            try:
                blob = path.read_bytes()
                pixels[name] = decode(blob, name, scale)
                hashes.append(byte_hash(blob + repr(scale).encode()))
            except ImageError as error:
                errors[name] = error.reason
            except OSError as error:
                errors[name] = f"it cannot be opened ({error.strerror or error})"
    return pixels, hashes, errors, order
