"""Formats that images come in, one file each, and the door that picks the right one."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from fallow.data.sources.arrays import ArraySource, is_array
from fallow.data.sources.base import (
    SOURCE_SCHEMA,
    Match,
    Row,
    Skipped,
    Source,
    batches,
    printable,
    read_image_file,
)
from fallow.data.sources.dataset import DatasetSource
from fallow.data.sources.extra import WithExtra
from fallow.data.sources.folder import FolderSource
from fallow.data.sources.table_file import TableFileSource
from fallow.errors import DataError

UNDERSTOOD = (
    "class folders (<class>/photo.jpg), train/ val/ test/ unlabeled/, a CSV, TSV or Parquet file, "
    "and in Python arrays and torch data sets (see 'Data' in the README)"
)

__all__ = [
    "SOURCE_SCHEMA",
    "ArraySource",
    "DatasetSource",
    "FolderSource",
    "Match",
    "Row",
    "Skipped",
    "Source",
    "TableFileSource",
    "WithExtra",
    "batches",
    "open_source",
    "printable",
    "read_image_file",
]


def open_source(data: Any, *, unlabeled: Any = None, val: Any = None, test: Any = None) -> Source:
    """Return the source for whatever ``data`` is.

    Args:
        data: A folder, a CSV, TSV or Parquet file (str or Path); a `Source`; ``(images, labels)`` or images
            alone as NumPy arrays or torch tensors; or a torch ``Dataset``.
        unlabeled: Unlabeled images: an array or a ``Dataset``, like ``data``.
        val: Validation images with labels, like ``data``.
        test: Test images with labels, like ``data``.

    Raises:
        DataError: The path does not exist, or nothing understands it.
    """
    others = {"unlabeled": unlabeled, "val": val, "test": test}
    if isinstance(data, (str, Path, Source)):
        if extra := [name for name, value in others.items() if value is not None]:
            raise DataError(
                f"{extra[0]}= goes with arrays and torch data sets; beside a path put those images into the "
                f"folder {extra[0]}/ or name the split in a CSV file"
            )
        if data == "":
            raise DataError("the path of the data is empty: give a folder of images or a CSV file")
        return data if isinstance(data, Source) else _from_path(Path(data).expanduser())
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    # A list of images is no array, but whoever gives one means one: what to do is said there.
    if is_array(data) or (pair and (is_array(data[0]) or isinstance(data[0], (list, tuple)))):
        train = (data, None) if is_array(data) else (data[0], data[1])
        return ArraySource(train=train, **others)
    if (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, (dict, tuple, list))
    ):
        return DatasetSource(train=data, **others)
    raise DataError(
        f"data of type {type(data).__name__} cannot be read as images; understood are {UNDERSTOOD}"
    )


def _from_path(path: Path) -> Source:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError(
            f"there is no folder or file '{path}': give a folder of images or a CSV file"
        ) from None
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be read ({error.strerror or error}): check the path and its permissions"
        ) from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):  # a pipe would be waited for, for ever
        raise DataError(f"'{path}' is neither a folder nor a file: give a folder of images or a CSV file")
    found = [
        (match.confidence, kind) for kind in (TableFileSource, FolderSource) if (match := kind.detect(path))
    ]
    if not found:
        raise DataError(f"'{path}' is no data set that fallow can read; understood are {UNDERSTOOD}")
    best: type[TableFileSource] | type[FolderSource] = max(found, key=lambda item: item[0])[1]
    return best(path)
