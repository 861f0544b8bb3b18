"""Lists of images: CSV, TSV and Parquet files of ``path,label``, and folders with one list per split."""

from __future__ import annotations

import csv
import io
import math
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from fallow.data.sources.base import (
    Match,
    Row,
    Source,
    batches,
    class_name,
    read_image_file,
    real_path,
    split_of,
)
from fallow.errors import DataError, nearest
from fallow.types import Split

PATH_NAMES = (
    "path",
    "file",
    "filename",
    "image",
    "image_path",
    "filepath",
    "file_path",
    "file_name",
    "image_name",
    "img",
)
LABEL_NAMES = ("label", "class", "category", "target", "class_name", "label_name")
SUFFIXES = (".csv", ".tsv", ".parquet")
LABEL_MAP = "label_map"


@dataclass(frozen=True)
class _Columns:
    """Where in a line is what; None = there is no such column."""

    path: int
    label: int | None
    split: int | None
    group: int | None
    width: int


class TableFileSource(Source):
    """Reads a list of images, or a folder with ``train.csv`` and any of ``val``, ``test``, ``unlabeled``.

    Lines are ``path,label``; a path alone, or with an empty label, is unlabeled. A first line that names its
    columns (``path``, ``file``, ``filename``, ``image`` ...; ``label``, ``class``, ``category`` ...; also
    ``split`` and ``group``) is recognized. Paths are relative to the list. In a folder, ``label_map.csv``
    (``index,name``) turns label indices into names.

    Args:
        path: The file or the folder.
    """

    name: ClassVar[str] = "table"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.root = Path(path)
        self._folder = self.root if self.root.is_dir() else self.root.parent
        self._files: list[tuple[Path, Split]] = (
            _split_files(self.root)
            if self.root.is_dir()
            else [(self.root, split_of(self.root.stem) or "train")]
        )

    @classmethod
    def detect(cls, path: Path) -> Match | None:
        """A file with a known ending, or a folder with a list called after a split."""
        if path.is_dir():
            files = _split_files(path)
            if not any(split == "train" for _, split in files):
                return None
            # Beside class folders a train.csv may hold anything; the folders say the same without a doubt.
            doubtful = any(
                p.is_dir() and split_of(p.name) == "train" and _has_folders(p) for p in path.iterdir()
            )
            return Match(0.2 if doubtful else 0.8, " + ".join(file.name for file, _ in files))
        return Match(0.9, f"a {path.suffix.lower()[1:]} file") if path.suffix.lower() in SUFFIXES else None

    def describe(self) -> str:
        """Return what was recognized, in one line."""
        return f"{' + '.join(file.name for file, _ in self._files)} (path, label)"

    def open(self, uri: str) -> bytes:
        """Return the content of the file at ``uri``, relative to the list."""
        return read_image_file(self.file(uri), uri)

    def file(self, uri: str) -> Path:
        """Return the file at ``uri``, relative to the list."""
        return real_path(self._folder, uri)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield one row per line.

        Raises:
            DataError: A line cannot be read (its number is named), or no file that the lists name exists.
        """
        rows = list(self._rows())
        if rows and not any(os.path.exists(real_path(self._folder, row.id)) for row in rows):
            raise DataError(
                f"none of the {len(rows)} files that '{self._files[0][0]}' names exists; the first is "
                f"'{rows[0].id}', looked for in '{self._folder}': paths are relative to the list"
            )
        return batches(rows)

    def _rows(self) -> Iterator[Row]:
        names = _label_map(self.root) if self.root.is_dir() else {}
        for file, default in self._files:
            for number, path, label, named, group in _lines(file):
                where = f"line {number} of '{file}'"
                here = split_of(named) if named else default
                if here is None:
                    raise DataError(f"{where} has the split '{named}': use train, val, test or unlabeled")
                if label and names:
                    if label not in names:
                        raise DataError(
                            f"{where} has the label '{label}', which is not in {LABEL_MAP}.csv: "
                            f"add it there or correct the line.{nearest(label, names)}"
                        )
                    label = names[label]
                known = class_name(label) if label and here != "unlabeled" else None
                yield Row(posixpath.normpath(path.replace("\\", "/")), here, known, group or None)


def _has_folders(folder: Path) -> bool:
    try:
        return any(entry.is_dir() for entry in folder.iterdir())
    except OSError:
        return False


def _split_files(folder: Path) -> list[tuple[Path, Split]]:
    """Return the lists in ``folder`` that are called after a split, with the split."""
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    except OSError:
        return []
    return [(file, split) for file in files if (split := split_of(file.stem)) is not None]


def _lines(file: Path) -> Iterator[tuple[int, str, str, str, str]]:
    """Yield (line number, path, label, split, group) with empty text for what is not given."""
    lines = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file)
    columns: _Columns | None = None
    for number, cells in lines:
        if columns is None:
            columns = _header(file, cells)
            if columns is not None:
                continue
            columns = _Columns(0, 1, None, None, 2)
        while len(cells) > columns.width and not cells[-1]:  # spreadsheets pad lines with empty cells
            cells = cells[:-1]
        if len(cells) > columns.width:
            raise DataError(
                f"line {number} of '{file}' has {len(cells)} columns where {columns.width} are expected: "
                "put names with commas in double quotes"
            )
        path = cells[columns.path] if columns.path < len(cells) else ""
        if not path:
            raise DataError(f"line {number} of '{file}' has no path: every line names an image")
        label, split, group = (
            cells[at] if at is not None and at < len(cells) else ""
            for at in (columns.label, columns.split, columns.group)
        )
        yield number, path, label, split, group


def _header(file: Path, cells: Sequence[str]) -> _Columns | None:
    """Return the columns when ``cells`` are names of columns, None when they are data.

    Raises:
        DataError: They are names, but none or several could be the label.
    """
    names = [cell.strip().lower() for cell in cells]
    path = next((names.index(name) for name in PATH_NAMES if name in names), None)
    if path is None or (file.parent / cells[path]).is_file():
        return None
    label = next((names.index(name) for name in LABEL_NAMES if name in names), None)
    split = names.index("split") if "split" in names else None
    group = names.index("group") if "group" in names else None
    rest = [at for at in range(len(names)) if at not in (path, split, group) and names[at]]
    if label is None and len(rest) > 1:
        raise DataError(
            f"'{file}' does not say which column is the label: call one of "
            f"{', '.join(cells[at] for at in rest[:5])} 'label' (one class an image; several columns of 0 and 1 are not read)"
        )
    if label is None and rest:
        label = rest[0]
    return _Columns(path, label, split, group, len(names))


def _csv(file: Path) -> Iterator[tuple[int, list[str]]]:
    text = _text(file)
    first = text.split("\n", 1)[0]
    delimiter = next(
        (mark for mark in (("\t",) if file.suffix.lower() == ".tsv" else (",", ";", "\t")) if mark in first),
        ",",
    )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num} of '{file}' cannot be read ({error}): check its quotation marks"
        ) from error


def _text(file: Path) -> str:
    """Return the text of a list: UTF-8 (with or without a mark), or UTF-16 as spreadsheets write it.

    Raises:
        DataError: The file cannot be opened, or a line holds bytes that are not UTF-8.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"'{file}' cannot be read ({error.strerror}): check its permissions") from error
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"line {line} of '{file}' is not UTF-8 text: save the file as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"line {line} of '{file}' cannot be read: it holds zero bytes; save the file as text")
    return text


def _parquet(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the column names and then the rows, all as text, numbered like the lines of a CSV file."""
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"'{file}' cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    if not any(name.lower() in PATH_NAMES for name in table.column_names):
        raise DataError(
            f"'{file}' has no column for the image: call it 'path'; it has {', '.join(table.column_names)}"
        )
    wanted = {*PATH_NAMES, *LABEL_NAMES, "split", "group"}
    plain = [n for n in table.column_names if n.lower() in wanted or len(table.column_names) == 2]
    yield 1, plain
    for number, row in enumerate(table.select(plain).to_pylist(), start=2):
        yield number, [_cell(row[name]) for name in plain]


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _label_map(folder: Path) -> dict[str, str]:
    """Return index -> name from ``label_map.csv``, empty where there is none.

    Raises:
        DataError: A line is not ``index,name``.
    """
    file = folder / f"{LABEL_MAP}.csv"
    if not file.is_file():
        return {}
    names: dict[str, str] = {}
    for number, cells in _csv(file):
        if len(cells) != 2:
            raise DataError(
                f"line {number} of '{file}' has {len(cells)} columns where 2 (index,name) are expected"
            )
        index, name = cells if cells[0].lstrip("-").isdigit() else cells[::-1]
        if index.lstrip("-").isdigit():
            names[index] = name
        elif names:
            raise DataError(f"line {number} of '{file}' has no index: lines are index,name")
    return names
