"""Reading every image once: hashes, sizes, a small print of each, and what cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from fallow.data.ahead import in_order
from fallow.data.images import ImageError, Native, PixelScale, decode_native, to_rgb
from fallow.data.sources.base import Row, Skipped, Source
from fallow.types import Progress

PRINT_SIDE = 64
"""Side of the print: pages of text and fields seen from above still differ, and it takes 4 KB an image."""

SMALLEST_PRINT = 48
"""Images with a shorter side (pixels) get no print: digits and icons of one class look too much alike."""

_SAMPLES = 256


@dataclass(slots=True)
class Print:
    """A small likeness of an image, to recognize it when it was resized or compressed again.

    Attributes:
        gray: (64, 64) brightness, uint8; float32 in the image's own range until `settle` is called.
        color: (4, 4, 3) mean colors; None as long as ``gray`` is float.
    """

    gray: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    color: npt.NDArray[np.uint8] | None


@dataclass(slots=True)
class Seen:
    """What one look at a readable image told."""

    width: int
    height: int
    byte_hash: str
    pixel_hash: str
    is_gray: bool
    deep: npt.NDArray[np.float32] | None = None
    print: Print | None = None

    def settle(self, scale: PixelScale) -> None:
        """Bring an image with more than 8 bits to the scale of the data set, once that is known."""
        if self.deep is None:
            return
        self.deep = None
        self.pixel_hash = _hash(f"{self.pixel_hash}:{scale.low!r}:{scale.high!r}".encode())
        if self.print is not None:
            rgb = to_rgb(self.print.gray, scale)
            self.print = _print_of(Image.fromarray(rgb))


def scan(source: Source, rows: Sequence[Row], workers: int, progress: Progress) -> list[Seen | Skipped]:
    """Open, hash and decode every row's image once, in threads.

    Returns:
        For each row, what was seen or why nothing was.
    """
    results: list[Seen | Skipped] = []
    for result in in_order(lambda row: _look(source, row), rows, workers):
        results.append(result)
        if len(results) % 16 == 0 or len(results) == len(rows):
            progress("reading images", len(results), len(rows))
    return results


def _look(source: Source, row: Row) -> Seen | Skipped:
    try:
        blob = source.open(row.uri)
        native = decode_native(blob, row.id)
    except ImageError as error:
        return Skipped(row.id, error.kind, error.reason, row.split)
    except OSError as error:
        return Skipped(row.id, "unreadable", f"it cannot be opened ({error.strerror or error})", row.split)
    height, width = native.shape[:2]
    seen = Seen(width, height, _hash(blob), _hash(native, str(native.shape)), is_gray=_is_gray(native))
    if native.dtype != np.uint8:
        values = native.reshape(-1)
        picked = values[:: max(1, len(values) // _SAMPLES)].astype(np.float32)
        seen.deep = picked[np.isfinite(picked)]
    if min(height, width) >= SMALLEST_PRINT:
        seen.print = _print(native)
    return seen


def byte_hash(blob: bytes) -> str:
    """Return the hash of a file's content, as in the column ``byte_hash`` of the image table."""
    return _hash(blob)


def _hash(content: bytes | Native, salt: str = "") -> str:
    digest = hashlib.blake2b(salt.encode(), digest_size=16)
    digest.update(content if isinstance(content, bytes) else np.ascontiguousarray(content).data)
    return digest.hexdigest()


def _is_gray(native: Native) -> bool:
    if native.ndim == 2:
        return True
    # One row first: that already tells nearly every color image.
    return all(
        np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 0], part[..., 2])
        for part in (native[native.shape[0] // 2], native)
    )


def _print(native: Native) -> Print:
    if native.dtype == np.uint8:
        return _print_of(Image.fromarray(native))
    gray = native.astype(np.float32)
    if gray.ndim == 3:
        gray = gray.mean(axis=2)
    small = Image.fromarray(gray).resize((PRINT_SIDE, PRINT_SIDE), Image.Resampling.BILINEAR)
    return Print(np.array(small), None)


def _print_of(image: Image.Image) -> Print:
    small = image.resize((PRINT_SIDE, PRINT_SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return Print(np.array(small.convert("L")), np.array(small.resize((4, 4), Image.Resampling.BOX)))
