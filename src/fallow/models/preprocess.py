"""From an image of any size to the square that a backbone sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fallow.errors import ConfigError, DataError


@dataclass(frozen=True)
class Preprocess:
    """Resize and normalize one image, exactly as the exported ONNX file does.

    The resize is Pillow's antialiased bicubic one (Keys kernel, a = -0.5, support widened when shrinking,
    rounded to whole gray levels after each of its two passes). The exported graph computes the same weights
    and roundings, so the two agree but for rare ties of one gray level. ONNX's own ``Resize(antialias=1)`` is
    not used: its edge handling differs from Pillow's by up to 18 levels on small images, and not every
    runtime has it.

    Attributes:
        size: Side of the square in pixels.
        mean: Mean per channel, on a 0..1 scale.
        std: Standard deviation per channel, on a 0..1 scale.
        mode: How the aspect ratio is treated. ``squash`` keeps the whole image and gives up the ratio: a crop
            may cut away what the label is about.
    """

    size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mode: Literal["squash"] = "squash"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"the image size is {self.size} pixels: it must be at least 1")
        if self.mode != "squash":
            raise ConfigError(f"the preprocessing mode is '{self.mode}': only 'squash' exists")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError("mean and std must hold three values each, and no std may be zero or negative")

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return ``image`` (H, W, 3) uint8 as (size, size, 3) uint8.

        Raises:
            DataError: ``image`` is not uint8 (H, W, 3) with at least one pixel.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise DataError(
                f"an image has shape {image.shape} and type {image.dtype}: "
                "give uint8 pixels of shape (height, width, 3)"
            )
        if image.shape[:2] == (self.size, self.size):
            return image
        picture = Image.fromarray(np.ascontiguousarray(image))
        # Width, then height, in two calls: since version 13, Pillow picks the order of its passes by the
        # shape of the image, and the rounding in between makes that visible.
        across = picture.resize((self.size, picture.height), Image.Resampling.BICUBIC)
        return np.asarray(across.resize((self.size, self.size), Image.Resampling.BICUBIC))

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (..., S, S, 3) uint8 pixels as normalized float32 (..., 3, S, S)."""
        scale, shift = self.scale_shift()
        values = pixels.astype(np.float32) * scale + shift
        return np.ascontiguousarray(np.moveaxis(values, -1, -3))

    def scale_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (scale, shift), each (3,) float32: pixels 0..255 become ``pixel * scale + shift``."""
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return ``image`` (H, W, 3) uint8 resized and normalized as (3, size, size) float32."""
        return self.normalize(self.resize(image))
