"""The audit: what is in a data set, what of it can be used, and what must be kept apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from fallow.data.ahead import default_workers
from fallow.data.clean import Conflict, Image, Leak, TwinGroup, clean, clean_extra
from fallow.data.images import PixelScale
from fallow.data.scan import Seen, scan
from fallow.data.sources.base import Row, Skipped, Source
from fallow.data.table import ANNOTATION_SCHEMA, IMAGE_SCHEMA, ImageTable
from fallow.data.twins import find_twins
from fallow.record import Decision
from fallow.types import JsonObject, Progress, Split, silent

PERCENTILES = (0.1, 99.9)
"""Values of images with more than 8 bits that become black and white: hot pixels must not decide."""


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        table: The images that can be used, sorted by id; every column is filled. All of ``train``, ``val``
            and ``test`` are labeled; training images without a label are in ``unlabeled``.
        source: Where they are read from.
        scale: Scale of images with more than 8 bits; None where there are none.
        skipped: What was found and cannot be used.
        twins: Images that are the same picture.
        leaks: Images taken out because a picture of val or test is the same; extra images also for one of training.
        conflicts: Pictures with two different labels, taken out in all copies.
        decisions: What was decided on the way.
        short_side_median: Median of the shorter side, in pixels; 0 without images. Extra images have no say.
        channels: ``gray`` when red, green and blue are equal in all images but the extra ones.
        given: Labeled training images of each class before anything was taken out, also classes without any.
        pool_twins: Images that left the unlabeled data because the same picture is in the data already.
        unreadable: Labeled training images of each class that could not be read.
    """

    table: ImageTable
    source: Source
    scale: PixelScale | None
    skipped: list[Skipped]
    twins: list[TwinGroup]
    leaks: list[Leak]
    conflicts: list[Conflict]
    decisions: list[Decision]
    short_side_median: float
    channels: Literal["gray", "color"]
    given: dict[str, int] = field(default_factory=dict)
    pool_twins: int = 0
    unreadable: dict[str, list[Skipped]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return how many images there are of each kind, and how many were taken out and why."""
        per_split = Counter(self.table.images["split"].to_pylist())
        return {
            "labeled": per_split["train"],
            "unlabeled": per_split["unlabeled"],
            "validation": per_split["val"],
            "test": per_split["test"],
            "classes": len(self.class_counts("train")),
            "skipped": len(self.skipped),
            "leaks": len(self.leaks),
            "conflicts": sum(len(conflict.ids) for conflict in self.conflicts),
            "pool_twins": self.pool_twins,
            **({"extra": per_split["extra"]} if per_split["extra"] else {}),
        }

    def class_counts(self, split: Split) -> dict[str, int]:
        """Return the number of images of each class in a split, by class name."""
        return dict(sorted(Counter(self.table.labels(split).values()).items()))

    def to_json(self) -> JsonObject:
        """Return the audit as a JSON object (``audit.json``)."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        splits += ("extra",) if self.class_counts("extra") else ()
        return {
            "source": self.source.describe(),
            "counts": dict(self.counts()),
            "class_counts": {split: dict(self.class_counts(split)) for split in splits},
            "short_side_median": self.short_side_median,
            "channels": self.channels,
            "pixel_scale": None if self.scale is None else [self.scale.low, self.scale.high],
            "skipped": [item.to_json() for item in self.skipped],
            "twins": [_plain(item) for item in self.twins],
            "leaks": [_plain(item) for item in self.leaks],
            "conflicts": [_plain(item) for item in self.conflicts],
        }


def _plain(item: Any) -> JsonObject:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(item).items()}


def audit(source: Source, *, workers: int | None = None, progress: Progress = silent) -> Audit:
    """Read every image once and sort out what can be trained on.

    Args:
        source: Where the images come from.
        workers: Threads that read and decode. Default: the processors of this process, at most 8.
        progress: Told about every few images.

    Returns:
        The clean table and all that was taken out, with reasons. Files that cannot be read are no error here;
        `check_trainable` tells whether enough is left.

    Raises:
        DataError: The source itself cannot be read (a broken line in a CSV file, say).
    """
    rows = list(_rows(source))
    given = dict.fromkeys(sorted(source.declared), 0)
    for row in rows:
        if row.split == "train" and row.label is not None:
            given[row.label] = given.get(row.label, 0) + 1
    readable = [row for row in rows if row.label is not None or row.split not in ("val", "test")]
    skipped = list(source.set_aside)
    skipped += [
        Skipped(row.id, "no_label", f"an image of {row.split} without a label cannot be scored", row.split)
        for row in rows
        if row.label is None and row.split in ("val", "test")
    ]
    results = scan(source, readable, workers or default_workers(), progress)
    unreadable: dict[str, list[Skipped]] = {}
    for row, result in zip(readable, results, strict=True):
        if isinstance(result, Skipped):
            skipped.append(result)
            if row.split == "train" and row.label is not None:
                unreadable.setdefault(row.label, []).append(result)
    images = [
        Image(row, result) for row, result in zip(readable, results, strict=True) if isinstance(result, Seen)
    ]
    scale, decisions = _pixel_scale(images)
    own = [image for image in images if image.row.split != "extra"]
    cleaned = clean(own, find_twins([image.seen for image in own]))
    if extra := [image for image in images if image.row.split == "extra"]:
        clean_extra(own, extra, find_twins([image.seen for image in (*own, *extra)]), cleaned)
    kept = sorted(cleaned.kept, key=lambda image: image.row.id)
    shown = [image.seen for image in kept if image.row.split != "extra"]
    return Audit(
        table=_table(kept),
        source=source,
        scale=scale,
        skipped=sorted(skipped + cleaned.duplicates, key=lambda item: item.id),
        twins=cleaned.twins,
        leaks=cleaned.leaks,
        conflicts=cleaned.conflicts,
        decisions=decisions,
        short_side_median=float(np.median([min(s.width, s.height) for s in shown])) if shown else 0.0,
        channels="gray" if shown and all(seen.is_gray for seen in shown) else "color",
        given=dict(sorted(given.items())),
        pool_twins=cleaned.pool_twins,
        unreadable=unreadable,
    )


def _rows(source: Source) -> Iterator[Row]:
    """Yield the source's rows; an unlabeled image of the training split belongs to the unlabeled data."""
    for batch in source.rows():
        for row in batch.to_pylist():
            label = row["labels"][0] if row["labels"] and row["split"] != "unlabeled" else None
            split: Split = "unlabeled" if row["split"] == "train" and label is None else row["split"]
            yield Row(row["id"], split, label, row["group"], row["uri"], row["weight"])


def _pixel_scale(images: Sequence[Image]) -> tuple[PixelScale | None, list[Decision]]:
    """Find the scale of images with more than 8 bits, and bring them to it; test images and extra ones have no say."""
    deep = [image for image in images if image.seen.deep is not None]
    if not deep:
        return None, []
    own = [i for i in deep if i.row.split != "extra"] or deep
    samples = [i.seen.deep for i in own if i.row.split != "test"] or [i.seen.deep for i in own]
    values = np.concatenate([s for s in samples if s is not None])
    low, high = (float(v) for v in np.percentile(values, PERCENTILES)) if len(values) else (0.0, 1.0)
    if high <= low:
        high = low + 1.0
    scale = PixelScale(low, high)
    for image in deep:
        image.seen.settle(scale)
    decision = Decision(
        "data.pixel_scale",
        [low, high],
        "rule",
        "images with more than 8 bits are scaled from the "
        f"{PERCENTILES[0]} to the {PERCENTILES[1]} percentile of the data set, test images left out",
        {"images": len(deep), "minimum": float(values.min()), "maximum": float(values.max())}
        if len(values)
        else {},
    )
    return scale, [decision]


def _table(images: Sequence[Image]) -> ImageTable:
    rows, seen = [i.row for i in images], [i.seen for i in images]
    columns: dict[str, list[Any]] = {
        "id": [row.id for row in rows],
        "uri": [row.uri for row in rows],
        "frame": [0] * len(rows),
        "width": [s.width for s in seen],
        "height": [s.height for s in seen],
        "byte_hash": [s.byte_hash for s in seen],
        "pixel_hash": [s.pixel_hash for s in seen],
        "split": [row.split for row in rows],
        "group": [row.group for row in rows],
        "label_state": ["unlabeled" if row.label is None else "labeled" for row in rows],
        "label_source": [None if row.label is None else "given" for row in rows],
        "weight": [row.weight for row in rows],
    }
    labeled = [row for row in rows if row.label is not None]
    labels: dict[str, list[Any]] = {
        "id": [row.id for row in labeled],
        "label": [row.label for row in labeled],
    }
    return ImageTable(
        pa.Table.from_pydict(columns, schema=IMAGE_SCHEMA),
        pa.Table.from_pydict(labels, schema=ANNOTATION_SCHEMA),
    )
