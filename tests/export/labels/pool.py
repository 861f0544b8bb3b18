"""A labeled pool of six tiny photos, as a verb would leave it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fallow.data import decode, open_source
from fallow.export.labels import Given, LabelSet
from fallow.record.labels import PoolLabels
from tests.photos import put

CLASSES = ("cat & co", "dog")


def labeled_pool(root: Path) -> LabelSet:
    """Write photos, two of the same name among them, and return what was said of the pool."""
    for kind, name in enumerate(CLASSES):
        put(root / "train" / name / "0.png", kind)
        put(root / "test" / name / "0.png", kind)
    ids = tuple(f"unlabeled/{place}" for place in ("a/1.png", "b/1.png", "2.png", "3.png", "4é.png", "5.png"))
    for kind, id_ in enumerate(ids):
        put(root / id_, kind % 2)
    source = open_source(root)
    first = np.array([0.99, 0.02, 0.9, 0.6, 0.3, 0.5], np.float32)
    pool = PoolLabels(
        CLASSES,
        ids,
        np.stack([first, 1 - first], 1),
        np.maximum(first, 1 - first).astype(np.float64),
        np.array([1, 1, 0.5, 0.5, np.nan, 0]),
        np.array([0, 0.1, 0.2, 0.3, 0.4, 0.99]),
        np.array([0, 0, 0, 1, 1, 2], np.int8),
    )
    given = tuple(
        Given(f"{split}/{name}/0.png", name, split) for split in ("train", "test") for name in CLASSES
    )
    everyone = (*(one.id for one in given), *ids)
    return LabelSet(
        pool,
        given,
        dict.fromkeys(everyone, (12, 12)),
        source.file,
        lambda id_: decode(source.open(id_), id_),
        source.name,
    )
