"""Real files, and real damage done to them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter


def picture(seed: int, height: int = 80, width: int = 96) -> np.ndarray:
    """Return an image with structure at all scales, different for each seed: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(height, width, 3)), (s, s, 0)) * s for s in (1, 3, 9, 20)]
    mixed = sum(layers)
    mixed = (mixed - mixed.min()) / (mixed.max() - mixed.min())
    return (mixed * 255).astype(np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, kind, **options)
    return content.getvalue()


def put(path: Path, seed: int = 0, kind: str | None = None, **size: int) -> Path:
    """Write `picture(seed)` to ``path`` and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = kind or {".jpg": "JPEG", ".webp": "WEBP"}.get(path.suffix, "PNG")
    path.write_bytes(encoded(picture(seed, **size), kind))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A small data set in split folders: 2 classes x 3 labeled, 4 unlabeled, 2 test images."""
    root = tmp_path / "photos"
    for c, name in enumerate(("cat", "dog")):
        for i in range(3):
            put(root / "train" / name / f"{i}.png", seed=10 * c + i)
        put(root / "test" / name / "t.jpg", seed=100 + c)
    for i in range(4):
        put(root / "unlabeled" / f"{i}.png", seed=200 + i)
    return root
