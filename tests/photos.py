"""Tiny photo collections for tests that go through the whole job: two easy classes, every picture its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 12
_seeds = count()


def tiny(kind: int, seed: int | None = None) -> np.ndarray:
    """Return a noisy picture with more of one color for each kind; without a seed, one that nobody else got."""
    rng = np.random.default_rng([kind, next(_seeds) if seed is None else 10**6 + seed])
    pixels = rng.normal(110, 25, (SIDE, SIDE, 3))
    pixels[:, :, kind % 3] += 80
    return np.clip(pixels, 0, 255).astype(np.uint8)


def put(path: Path, kind: int = 0, seed: int | None = None) -> Path:
    """Write one picture, with the format of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tiny(kind, seed)).save(path)
    return path


def photos(
    root: Path,
    classes: Sequence[str] = ("cat", "dog"),
    labeled: int = 3,
    pool: int = 8,
    test: int = 2,
) -> Path:
    """Write ``train/<class>/``, ``test/<class>/`` and ``unlabeled/`` below ``root`` and return it."""
    for kind, name in enumerate(classes):
        for i in range(labeled):
            put(root / "train" / name / f"{i}.png", kind)
        for i in range(test):
            put(root / "test" / name / f"{i}.png", kind)
    for i in range(pool):
        put(root / "unlabeled" / f"{i}.png", i % len(classes))
    return root
