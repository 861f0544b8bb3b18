"""Decoded pixels of many images, side by side: read once, then any batch is a matter of indexing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fallow.data.ahead import default_workers, in_order
from fallow.types import Progress, silent

Pixels = NDArray[np.uint8]
IN_MEMORY_BYTES = 2**30
"""Up to this size the pixels lie in memory; more is mapped from a file, and the operating system keeps what is in use."""


def read_pixels(
    read: Callable[[str], Pixels],
    ids: Sequence[str],
    size: int,
    resize: Callable[[Pixels], Pixels],
    *,
    folder: Path | None = None,
    key: str = "",
    progress: Progress = silent,
) -> Pixels:
    """Return the images ``ids`` as uint8 (n, size, size, 3).

    Args:
        read: Returns the uint8 (H, W, 3) pixels of an id; called from several threads.
        ids: The images.
        size: Side of the square that ``resize`` makes.
        resize: Makes an image a square.
        folder: Where a file goes that holds what is too large for memory. None: memory, whatever the size.
        key: Says what the images are (their content, not their names): a whole file of the same key is used again.
        progress: Told how many images are done.
    """
    shape = (len(ids), size, size, 3)
    if folder is None or int(np.prod(shape)) <= IN_MEMORY_BYTES:
        pixels = np.empty(shape, np.uint8)
        _fill(pixels, read, ids, resize, progress)
        return pixels
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.blake2b(f"{key}/{shape}".encode(), digest_size=12).hexdigest()
    path = folder / f"{name}.npy"
    if not path.is_file():
        part = folder / f"{name}.{os.getpid()}.part"
        try:
            pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
            _fill(pixels, read, ids, resize, progress)
            pixels.flush()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


def _fill(
    pixels: Pixels,
    read: Callable[[str], Pixels],
    ids: Sequence[str],
    resize: Callable[[Pixels], Pixels],
    progress: Progress,
) -> None:
    for row, image in enumerate(in_order(lambda name: resize(read(name)), ids, default_workers())):
        pixels[row] = image
        if row % 64 == 0:
            progress("read images", row, len(pixels))
    progress("read images", len(pixels), len(pixels))
