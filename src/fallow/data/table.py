"""The image table: one row per image, and the annotations beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fallow.errors import RunError
from fallow.record.rundir import atomic_path
from fallow.types import Split

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("byte_hash", pa.string()),
        pa.field("pixel_hash", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("label_state", pa.string(), nullable=False),
        pa.field("label_source", pa.string()),
        pa.field("weight", pa.float32(), nullable=False),
    ]
)
ANNOTATION_SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("label", pa.string(), nullable=False)]
)


@dataclass(frozen=True)
class ImageTable:
    """All images and what is known of them.

    Attributes:
        images: One row per image (`IMAGE_SCHEMA`). ``width``, ``height`` and the hashes are null until
            audited; ``label_state`` is labeled, unlabeled or empty (looked at, nothing there).
        annotations: One row per label, keyed by ``id`` (`ANNOTATION_SCHEMA`).
    """

    images: pa.Table
    annotations: pa.Table

    @classmethod
    def from_batches(cls, batches: Iterable[pa.RecordBatch]) -> ImageTable:
        """Gather the rows of a source (`SOURCE_SCHEMA`) into a table that has not been audited."""
        rows = [row for batch in batches for row in batch.to_pylist()]
        images = [
            {
                **{key: row[key] for key in ("id", "uri", "frame", "split", "group", "weight")},
                "label_state": "unlabeled"
                if row["labels"] is None
                else "labeled"
                if row["labels"]
                else "empty",
                "label_source": None if row["labels"] is None else "given",
            }
            for row in rows
        ]
        labels = [{"id": row["id"], "label": label} for row in rows for label in row["labels"] or ()]
        return cls(
            pa.Table.from_pylist(images, schema=IMAGE_SCHEMA),
            pa.Table.from_pylist(labels, schema=ANNOTATION_SCHEMA),
        )

    def __len__(self) -> int:
        return int(self.images.num_rows)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.images["id"].to_pylist())}

    @cached_property
    def _labels(self) -> dict[str, str]:
        return dict(
            zip(self.annotations["id"].to_pylist(), self.annotations["label"].to_pylist(), strict=True)
        )

    def __contains__(self, id_: object) -> bool:
        return id_ in self._place

    def ids(self, split: Split | None = None) -> list[str]:
        """Return the ids, all or of one split, in the order of the table."""
        images = self.images if split is None else self.images.filter(pc.field("split") == split)
        found: list[str] = images["id"].to_pylist()
        return found

    def labels(self, split: Split | None = None) -> dict[str, str]:
        """Return id -> label of the labeled images, all or of one split."""
        known = self._labels
        return {id_: known[id_] for id_ in self.ids(split) if id_ in known}

    def keep(self, ids: Iterable[str]) -> ImageTable:
        """Return the table of these ids only, in the order of this table; unknown ids are no error."""
        wanted = set(ids)
        rows = [row for id_, row in self._place.items() if id_ in wanted]
        mask = pc.is_in(self.annotations["id"], value_set=pa.array(sorted(wanted), pa.string()))
        return ImageTable(self.images.take(pa.array(rows, pa.int64())), self.annotations.filter(mask))

    def column(self, name: str, ids: Sequence[str]) -> list[Any]:
        """Return the values of one column for these ids, in their order.

        Raises:
            KeyError: The table has no such column or id.
        """
        place = self._place
        values: list[Any] = self.images[name].take(pa.array([place[i] for i in ids], pa.int64())).to_pylist()
        return values

    def write(self, path: Path) -> None:
        """Write the images with their label as one Parquet file (``splits.parquet``)."""
        known = self._labels
        column = pa.array([known.get(i) for i in self.images["id"].to_pylist()], pa.string())
        with atomic_path(path) as temporary:
            pq.write_table(self.images.append_column("label", column), temporary)

    @classmethod
    def read(cls, path: Path) -> ImageTable:
        """Read what `write` wrote.

        Raises:
            RunError: The file is missing or was not written by `write`.
        """
        try:
            table = pq.read_table(path)
            images = table.select(IMAGE_SCHEMA.names).cast(IMAGE_SCHEMA)
            labels = (
                table.select(["id", "label"]).filter(pc.field("label").is_valid()).cast(ANNOTATION_SCHEMA)
            )
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise RunError(
                f"'{path}' cannot be read as an image table ({error}): was it written by fallow?"
            ) from error
        return cls(images, labels)
