"""Which files a person means by files, folders and globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from fallow.errors import DataError

_SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"])


def find_images(patterns: Iterable[str | Path]) -> Iterator[Path]:
    """Expand files, folders and globs, in the order given and sorted within each.

    Of a folder those files are meant that are called like an image or begin like one; a file named by itself is meant
    whatever it is. Folders are walked as they are consumed, so that their size does not matter.

    Raises:
        DataError: A pattern matches nothing; found out before the first file is returned.
    """
    return chain.from_iterable([_expand(pattern) for pattern in patterns])


def _expand(pattern: str | Path) -> Iterator[Path]:
    path = Path(pattern)
    if os.path.isdir(path):
        inside = _images_below(path)
        first = next(inside, None)
        if first is None:
            raise DataError(f"the folder '{pattern}' holds no images: give images, folders or a glob")
        return chain([first], inside)
    if os.path.lexists(path):
        return iter([path])
    matched = sorted(Path(p) for p in glob.glob(str(pattern), recursive=True) if not os.path.isdir(p))
    if not matched:
        raise DataError(f"'{pattern}' does not exist and matches nothing: give images, folders or a glob")
    return iter(matched)


def _images_below(folder: Path) -> Iterator[Path]:
    from fallow.data.sources.walk import Level, files_below, level_of

    def listed(inside: str) -> Level:
        try:
            return level_of(folder / inside)
        except OSError as error:
            raise DataError(
                f"the folder '{folder / inside}' cannot be read ({error.strerror or error}): check its permissions"
            ) from error

    return (folder / name for name in files_below(folder, "", listed) if _is_image(folder / name))


def _is_image(path: Path) -> bool:
    from fallow.data import looks_like_image

    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return looks_like_image(file.read(64)) is None
    except OSError:
        return False
