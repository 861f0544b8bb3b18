"""Two sources as one: the data, and beside it labeled images of another origin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from fallow.data.sources.base import Row, Skipped, Source, batches

MARK = "extra://"
"""What ids, groups and places of extra images begin with, so that none is ever taken for one of the data's."""


class WithExtra(Source):
    """The data as they are, then the labeled images of another source in a split of their own, ``extra``.

    Images that are for training or validation there are taken. Those without a label teach nothing here, and somebody's
    test images stay test images.

    Args:
        main: The data.
        extra: Where the extra images come from.

    Attributes:
        extra: The same.
        taken: Labeled extra images that were found; known once `rows` has run, as is ``left_out``.
        left_out: Images of the extra source that were not taken, by reason: ``without a label`` or ``for testing``.
    """

    name: ClassVar[str] = "with extra images"

    def __init__(self, main: Source, extra: Source) -> None:
        super().__init__()
        self.main, self.extra = main, extra
        self.root = getattr(main, "root", main.describe())
        self.taken = 0
        self.left_out: dict[str, int] = {}

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the data, unchanged, then the extra ones."""
        yield from self.main.rows()
        self.taken, self.left_out = 0, {}
        yield from batches(self._extra_rows())
        self.declared = set(self.main.declared)
        theirs = [Skipped(MARK + item.id, item.kind, item.reason, "extra") for item in self.extra.set_aside]
        self.set_aside = [*self.main.set_aside, *theirs]

    def _extra_rows(self) -> Iterator[Row]:
        for batch in self.extra.rows():
            for row in batch.to_pylist():
                if row["split"] == "test" or not row["labels"]:
                    why = "for testing" if row["split"] == "test" else "without a label"
                    self.left_out[why] = self.left_out.get(why, 0) + 1
                    continue
                self.taken += 1
                group = None if row["group"] is None else MARK + row["group"]
                yield Row(
                    MARK + row["id"], "extra", row["labels"][0], group, MARK + row["uri"], row["weight"]
                )

    def open(self, uri: str) -> bytes:
        """Return the encoded image behind ``uri``, from the source that it is of.

        Raises:
            ImageError: As the source says; an extra image is named as extra.
        """
        source, place = self._of(uri)
        return source.open(place)

    def file(self, uri: str) -> Path | None:
        """Return the file behind ``uri``; None where it is none."""
        source, place = self._of(uri)
        return source.file(place)

    def describe(self) -> str:
        """Return what was recognized, in one line."""
        return f"{self.main.describe()}; extra images: {self.extra.describe()}"

    def _of(self, uri: str) -> tuple[Source, str]:
        return (self.extra, uri.removeprefix(MARK)) if uri.startswith(MARK) else (self.main, uri)
