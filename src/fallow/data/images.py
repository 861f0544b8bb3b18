"""From the bytes of an image file to RGB pixels, the same way everywhere, or a reason why not."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from fallow.errors import DataError

Pixels: TypeAlias = npt.NDArray[np.uint8]
Native: TypeAlias = npt.NDArray[Any]
ImageKind: TypeAlias = Literal[
    "empty", "not_an_image", "truncated", "damaged", "too_large", "unreadable", "missing"
]

PIXEL_LIMIT = 200_000_000
"""Images with more pixels are refused before any of them is decoded."""

NPY_MAGIC = b"\x93NUMPY"

# Named one by one: other decoders of Pillow (EPS, PDF ...) start programs or read things that are no photo.
# Their plugins are imported here, since Pillow loads them on first need and two threads could meet halfway.
_FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    GifImagePlugin.GifImageFile.format,
    PpmImagePlugin.PpmImageFile.format,
)
_SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    *(b"P%d%c" % (n, space) for n in range(1, 7) for space in b" \t\r\n"),
)

# Pillow refuses at twice this number while it reads the header; raised so that the limit is ours, and its
# warning, which would land between the lines of a progress display, is not needed below it.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, PIXEL_LIMIT // 2)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What it has to say about damaged metadata would, too; damaged pixels are an ImageError.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class ImageError(DataError):
    """One image cannot be used.

    Attributes:
        reason: Why, in words.
        kind: ``empty``, ``not_an_image``, ``truncated``, ``damaged``, ``too_large``, ``unreadable`` or
            ``missing``.
    """

    def __init__(self, reason: str, kind: ImageKind, name: str = "") -> None:
        super().__init__(f"the image '{name}' cannot be used: {reason}" if name else reason)
        self.reason = reason
        self.kind = kind


@dataclass(frozen=True)
class PixelScale:
    """Which values of images with more than 8 bits become black and white.

    Attributes:
        low: Becomes 0.
        high: Becomes 255.
    """

    low: float
    high: float


def looks_like_image(head: bytes) -> str | None:
    """Return None when the first bytes (at least 16) are those of a supported format, else why not."""
    if head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return None
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return None
    if head[4:8] == b"ftyp":
        return "HEIC, AVIF and video files are not read; convert photos to JPEG or PNG"
    return "it is not an image in a supported format (JPEG, PNG, WebP, BMP, TIFF, GIF)"


def decode(blob: bytes, name: str, scale: PixelScale | None = None) -> Pixels:
    """Decode an image to 8-bit RGB.

    Orientation from EXIF is applied, transparency is laid over white, the first frame of a film is taken,
    CMYK, palette and gray become RGB. Gray images with more than 8 bits are scaled, never cut off.

    Args:
        blob: Content of an image file, or an array as `numpy.save` writes it (from array sources).
        name: What to call it in an error.
        scale: For images with more than 8 bits. Default: the full range of the type.

    Returns:
        uint8 array (height, width, 3), writable.

    Raises:
        ImageError: It is no image, incomplete, damaged or larger than 200 megapixels.
    """
    return to_rgb(decode_native(blob, name), scale)


def to_rgb(native: Native, scale: PixelScale | None = None) -> Pixels:
    """Turn the result of `decode_native` into uint8 (height, width, 3); what is 8-bit stays as it is."""
    if native.dtype == np.uint8:
        return native
    scale = scale or full_range(native)
    values = np.nan_to_num(native.astype(np.float32), nan=scale.low, posinf=scale.high, neginf=scale.low)
    values -= np.float32(scale.low)
    values *= np.float32(255.0 / max(scale.high - scale.low, 1e-12))
    gray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2) if gray.ndim == 2 else gray


def full_range(native: Native) -> PixelScale:
    """Return the scale of one image alone.

    All of uint16; for wider types 0..1 or 0..65535 where the values fit in it, else their own extremes.
    """
    if native.dtype == np.uint16:
        return PixelScale(0.0, 65535.0)
    finite = native[np.isfinite(native)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0 and native.dtype.kind == "f" and high <= 1:
        return PixelScale(0.0, 1.0)
    if low >= 0 and high <= 65535:
        return PixelScale(0.0, 65535.0)
    return PixelScale(low, max(high, low + 1.0))


def decode_native(blob: bytes, name: str) -> Native:
    """Decode an image, keeping what has more than 8 bits.

    Returns:
        uint8 (height, width, 3); or uint16, int32 or float32 of shape (height, width) or (height, width, 3).

    Raises:
        ImageError: As `decode`.
    """
    if not blob:
        raise ImageError("the file has zero bytes", "empty", name)
    if blob.startswith(NPY_MAGIC):
        return _from_npy(blob, name)
    if (why_not := looks_like_image(blob[:64])) is not None:
        raise ImageError(why_not, "not_an_image", name)
    _check_whole(blob, name)
    try:
        with Image.open(io.BytesIO(blob), formats=_FORMATS) as image:
            _check_size(image.width * image.height, name)
            image.load()
            return _pixels(_upright(image))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"it has more than {PIXEL_LIMIT // 10**6} megapixels", "too_large", name) from None
    except UnidentifiedImageError:
        raise ImageError("the head of the file is damaged", "damaged", name) from None
    except MemoryError:
        raise ImageError("it does not fit in memory", "too_large", name) from None
    except Exception as error:  # damaged files make decoders raise nearly anything; none of it may stop a run
        text = str(error) or type(error).__name__
        cut = "truncated" in text.lower() or isinstance(error, EOFError)
        raise ImageError(
            "the file ends too early" if cut else f"the content is damaged ({text})",
            "truncated" if cut else "damaged",
            name,
        ) from None


def _check_size(pixels: int, name: str) -> None:
    if pixels > PIXEL_LIMIT:
        raise ImageError(
            f"it has {pixels / 1e6:.0f} megapixels, more than {PIXEL_LIMIT // 10**6}", "too_large", name
        )


def _check_whole(blob: bytes, name: str) -> None:
    """Find the damage that Pillow reads past: wrong checksums in PNG, and JPEGs that end in zeros."""
    if blob.startswith(b"\xff\xd8"):
        body = blob.rstrip(b"\0")
        # Padding is harmless where an end marker comes somewhere behind the last scan.
        if len(blob) - len(body) >= 64 and body.rfind(b"\xff\xd9") < body.rfind(b"\xff\xda"):
            raise ImageError("the file ends in zeros where the image should go on", "truncated", name)
    elif blob.startswith(b"\x89PNG"):
        _check_png(blob, name)


def _check_png(blob: bytes, name: str) -> None:
    at = 8
    while at + 12 <= len(blob):
        (length,) = struct.unpack_from(">I", blob, at)
        end = at + 12 + length
        if end > len(blob):
            break
        if zlib.crc32(memoryview(blob)[at + 4 : end - 4]) != struct.unpack_from(">I", blob, end - 4)[0]:
            raise ImageError("the content is damaged (a checksum does not fit)", "damaged", name)
        if blob[at + 4 : at + 8] == b"IHDR" and length >= 8:
            width, height = struct.unpack_from(">II", blob, at + 8)
            _check_size(width * height, name)
        if blob[at + 4 : at + 8] == b"IEND":
            return
        at = end
    raise ImageError("the file ends too early", "truncated", name)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF data says nothing about the pixels
        return image
    return turned if turned is not None else image


def _pixels(image: Image.Image) -> Native:
    """Return the pixels of a loaded image as `decode_native` promises them."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        deep = np.array(image)
        if not np.isfinite(deep).any():
            raise ValueError("no finite value")
        return deep
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, (255, 255, 255, 255))
        white.alpha_composite(seen)
        image = white
    return np.array(image.convert("RGB"))


def _from_npy(blob: bytes, name: str) -> Native:
    try:
        array: Native = np.load(io.BytesIO(blob), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ImageError(f"the array cannot be read ({error})", "damaged", name) from None
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise ImageError(f"an array of shape {array.shape} is not an image", "not_an_image", name)
    _check_size(array.shape[0] * array.shape[1], name)
    if channels == 4:
        top = float(np.iinfo(array.dtype).max)
        alpha = array[:, :, 3:].astype(np.float32) / top
        array = np.rint(array[:, :, :3] * alpha + top * (1 - alpha)).astype(array.dtype)
    if array.ndim == 3 and channels == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint8 and array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    return array
