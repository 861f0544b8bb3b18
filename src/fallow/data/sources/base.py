"""What every source of images can do, and the columns in which it tells what it found."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from fallow.data.images import ImageError, looks_like_image
from fallow.types import JsonObject, Split

SOURCE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("weight", pa.float32(), nullable=False),
    ]
)
"""``labels``: null = nobody looked, [] = somebody looked and there is nothing, [a] = the class."""

_BATCH_ROWS = 8192

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "unlabeled": "unlabeled",
    "unlabelled": "unlabeled",
}
"""What people call their splits (compared in lower case)."""


@dataclass(frozen=True)
class Match:
    """How sure a source is that a path is for it.

    Attributes:
        confidence: 0 to 1; the highest wins.
        reason: What was recognized, in a few words.
    """

    confidence: float
    reason: str


@dataclass(frozen=True)
class Skipped:
    """Something that was found and not used.

    Attributes:
        id: The image (or file, or folder ending in ``/``).
        kind: ``empty``, ``not_an_image``, ``truncated``, ``damaged``, ``too_large``, ``unreadable``,
            ``missing``, ``no_label`` (in val or test), ``duplicate_row`` or ``not_a_split``.
        reason: The reason in words.
        split: The split it would have been in, or an empty string.
    """

    id: str
    kind: str
    reason: str
    split: str = ""

    def to_json(self) -> JsonObject:
        """Return the entry as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Row:
    """One image as a source sees it, before anybody has opened it."""

    id: str
    split: Split
    label: str | None = None
    group: str | None = None
    uri: str = ""
    weight: float = 1.0


class Source(ABC):
    """Where images come from.

    Attributes:
        name: Short name of the format.
        set_aside: What the source saw and gave no row for; filled while `rows` runs.
        declared: Classes that the source names even where they hold no image (an empty class folder).
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.set_aside: list[Skipped] = []
        self.declared: set[str] = set()

    @classmethod
    def detect(cls, path: Path) -> Match | None:
        """Return how well ``path`` fits this format, or None. Sources without a path fit none."""
        return None

    @abstractmethod
    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of `SOURCE_SCHEMA`, in a fixed order."""

    @abstractmethod
    def open(self, uri: str) -> bytes:
        """Return the encoded image behind ``uri``; must be safe to call from several threads.

        Raises:
            ImageError: It cannot be read, or is no image.
        """

    def file(self, uri: str) -> Path | None:
        """Return the file behind ``uri``; None where it is none (an array in memory)."""
        return None

    @abstractmethod
    def describe(self) -> str:
        """Return what was recognized, in one line."""


def batches(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Pack rows into record batches of `SOURCE_SCHEMA`."""
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if len(held) == _BATCH_ROWS:
            yield _batch(held)
            held = []
    if held:
        yield _batch(held)


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns: dict[str, list[Any]] = {
        "id": [r.id for r in rows],
        "uri": [r.uri or r.id for r in rows],
        "frame": [0] * len(rows),
        "split": [r.split for r in rows],
        "group": [r.group for r in rows],
        "labels": [None if r.label is None else [r.label] for r in rows],
        "weight": [r.weight for r in rows],
    }
    return pa.RecordBatch.from_pydict(columns, schema=SOURCE_SCHEMA)


def class_name(text: str) -> str:
    """Return a class name in one Unicode form: macOS writes accents as two characters, others as one."""
    return unicodedata.normalize("NFC", printable(text))


def printable(path: str) -> str:
    r"""Return a file name as valid Unicode; bytes that are not UTF-8 become ``\xHH``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def real_path(root: Path, uri: str) -> Path:
    """Return the file behind ``uri``, undoing `printable` where the plain name does not exist."""
    path = root / uri
    if "\\x" in uri and not os.path.lexists(path):
        raw = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), os.fsencode(uri))
        path = root / os.fsdecode(raw)
    return path


def read_image_file(path: Path, name: str) -> bytes:
    """Return the content of an image file.

    The first bytes are looked at before the rest is read, so that a film or an archive among the photos costs
    nothing, and only regular files are opened: a pipe would wait for ever.

    Raises:
        ImageError: The file is missing, unreadable, empty or does not begin as an image does.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError("it is not a regular file", "unreadable", name)
        with path.open("rb") as file:
            head = file.read(64)
            if not head:
                raise ImageError("the file has zero bytes", "empty", name)
            if (why_not := looks_like_image(head)) is not None:
                raise ImageError(why_not, "not_an_image", name)
            return head + file.read()
    except FileNotFoundError:
        target = "the link points to nothing" if path.is_symlink() else "there is no such file"
        raise ImageError(target, "missing", name) from None
    except OSError as error:
        raise ImageError(f"it cannot be opened ({error.strerror or error})", "unreadable", name) from error


def split_of(text: str) -> Split | None:
    """Return the split that a folder, a file or a cell names, or None."""
    return SPLIT_NAMES.get(text.strip().lower())
