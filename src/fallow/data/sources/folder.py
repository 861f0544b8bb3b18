"""Folders: class folders, split folders, or photos in a heap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from fallow.data.sources.base import (
    Match,
    Row,
    Skipped,
    Source,
    batches,
    class_name,
    printable,
    read_image_file,
    real_path,
    split_of,
)
from fallow.data.sources.walk import Level, files_below, join, level_of
from fallow.errors import DataError
from fallow.types import Split


class FolderSource(Source):
    """Reads a folder of images.

    Understood are split folders (``train/``, ``val/``, ``test/``, ``unlabeled/`` and their usual other names;
    in all but the last, one folder per class), class folders alone or beside ``unlabeled/``, ``val/`` and
    ``test/``, and a flat folder, all of it unlabeled. An image's class is the *first* folder below the split
    (or below the root), as in torchvision's ``ImageFolder``; deeper folders belong to it. A single folder
    that holds all others is stepped into.

    Args:
        path: The folder.

    Raises:
        DataError: The folder cannot be read.
    """

    name: ClassVar[str] = "folder"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.root = Path(path)
        self._top = self._descend()
        self._splits, self._classes, self._beside = self._plan()

    @classmethod
    def detect(cls, path: Path) -> Match | None:
        """Any folder will do; others may know it better."""
        return Match(0.3, "a folder") if path.is_dir() else None

    def describe(self) -> str:
        """Return what was recognized, in one line."""
        parts = [f"{folder}/" for folder, _ in self._splits]
        if self._classes:
            parts.insert(0, f"{len(self._classes)} class folders")
        inside = f" in {self._top}/" if self._top else ""
        return f"{' + '.join(parts) if parts else 'a flat folder, all unlabeled'}{inside}"

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield one row per visible file; whether a file is an image is seen when it is opened."""
        self.set_aside = []
        self.declared = set()
        return batches(self._rows())

    def open(self, uri: str) -> bytes:
        """Return the content of the file at ``uri``, relative to the folder."""
        return read_image_file(self.file(uri), uri)

    def file(self, uri: str) -> Path:
        """Return the file at ``uri``, relative to the folder."""
        return real_path(self.root, uri)

    def _descend(self) -> str:
        """Return the folder to start in: data sets are often unpacked into one folder too many."""
        top = ""
        while True:
            level = self._list(top)
            if len(level.folders) != 1 or split_of(level.folders[0]) or level.files:
                return top
            inner = self._list(join(top, level.folders[0]))
            if not inner.folders:
                return top
            top = join(top, level.folders[0])
            if top.count("/") > 8:
                return top

    def _plan(self) -> tuple[list[tuple[str, Split]], list[str], list[str]]:
        """Return split folders, class folders at the top, and folders that are neither."""
        folders = self._list(self._top).folders
        splits = [(name, split) for name in folders if (split := split_of(name)) is not None]
        rest = [name for name in folders if split_of(name) is None]
        train = [name for name, split in splits if split == "train"]
        if train and rest and not any(self._list(join(self._top, name)).folders for name in train):
            # Beside other class folders, a `train` with nothing but images in it holds photos of trains.
            return [s for s in splits if s[0] not in train], sorted(rest + train), []
        return (splits, [], rest) if train else (splits, rest, [])

    def _rows(self) -> Iterator[Row]:
        for name in self._beside:
            why = "a folder beside train/ that is no split (val/, test/, unlabeled/) is not read"
            self.set_aside.append(Skipped(printable(join(self._top, name)) + "/", "not_a_split", why))
        for file in self._list(self._top).files:
            yield Row(printable(join(self._top, file)), "unlabeled")
        for name in self._classes:
            yield from self._class(name, "train")
        for name, split in self._splits:
            if split == "unlabeled":
                yield from (Row(id_, "unlabeled") for id_ in self._walk(join(self._top, name)))
                continue
            here = self._list(join(self._top, name))
            for file in here.files:
                yield Row(printable(join(self._top, name, file)), "unlabeled" if split == "train" else split)
            for folder in here.folders:
                yield from self._class(join(name, folder), split)

    def _class(self, folder: str, split: Split) -> Iterator[Row]:
        label = class_name(folder.rsplit("/", 1)[-1])
        if split == "train":
            self.declared.add(label)
        yield from (Row(id_, split, label) for id_ in self._walk(join(self._top, folder)))

    def _walk(self, folder: str) -> Iterator[str]:
        return map(printable, files_below(self.root, folder, self._list))

    def _list(self, folder: str) -> Level:
        try:
            return level_of(self.root / folder if folder else self.root)
        except OSError as error:
            why = error.strerror or str(error)
            if not folder:
                raise DataError(
                    f"the folder '{self.root}' cannot be read ({why}): check its permissions"
                ) from error
            entry_id = printable(folder) + "/"
            if all(known.id != entry_id for known in self.set_aside):
                self.set_aside.append(Skipped(entry_id, "unreadable", f"the folder cannot be read ({why})"))
            return Level()
