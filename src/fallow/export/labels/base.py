"""What every format of labels is written from, and how images get beside them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fallow.data import ImageTable, Source
from fallow.errors import RunError
from fallow.record.labels import PoolLabels
from fallow.types import Split

Files = Literal["link", "copy"]


@dataclass(frozen=True)
class Given:
    """A label that a person gave.

    Attributes:
        id: The image.
        label: Its class.
        split: ``train``, ``val`` or ``test``.
    """

    id: str
    label: str
    split: Split


@dataclass(frozen=True)
class LabelSet:
    """A pool's labels beside those that were given, and how the images are had.

    Attributes:
        pool: What the model says of the unlabeled images.
        given: The labels given, of all splits.
        sizes: Width and height in pixels of each image.
        file: Returns the file of an image, None where it is no file (an array in memory).
        read: Returns the uint8 (H, W, 3) pixels of an image.
        origin: What the data came as: ``folder``, ``table``, ``arrays`` or ``dataset``.
    """

    pool: PoolLabels
    given: tuple[Given, ...]
    sizes: Mapping[str, tuple[int, int]]
    file: Callable[[str], Path | None]
    read: Callable[[str], NDArray[np.uint8]]
    origin: str = "folder"

    def learned_from(self) -> Iterator[tuple[str, str, float]]:
        """Yield id, label and weight of all that a training loop should learn from: given labels first."""
        yield from ((one.id, one.label, 1.0) for one in self.given if one.split == "train")
        for row in self.pool.where("accept"):
            yield self.pool.ids[row], self.pool.label(row), float(self.pool.weight[row])

    def address(self, id_: str) -> str:
        """Return the absolute path of an image, or its id where it is no file."""
        file = self.file(id_)
        return id_ if file is None else str(file.absolute())


def label_set(
    pool: PoolLabels, table: ImageTable, source: Source, read: Callable[[str], NDArray[np.uint8]]
) -> LabelSet:
    """Return a pool's labels beside those of the table they belong to.

    Args:
        pool: What a model says of the unlabeled images.
        table: All images, audited.
        source: Where they come from.
        read: Returns the pixels of an image.
    """
    columns = (table.images[name].to_pylist() for name in ("id", "uri", "width", "height"))
    uri, sizes = {}, {}
    for id_, place, width, height in zip(*columns, strict=True):
        sizes[id_] = (width, height)
        if place != id_:
            uri[id_] = place
    splits: tuple[Split, ...] = ("train", "val", "test")
    given = tuple(
        Given(id_, label, split) for split in splits for id_, label in sorted(table.labels(split).items())
    )
    return LabelSet(pool, given, sizes, lambda id_: source.file(uri.get(id_, id_)), read, source.name)


def plain_name(id_: str) -> str:
    """Return an id as the name of one file: ids are paths, and two of them may end alike."""
    parts = [
        part for part in id_.replace("\\", "/").replace(":", "/").split("/") if part not in ("", ".", "..")
    ]
    return "__".join(parts) or "image"


def folder_names(classes: Iterable[str]) -> dict[str, str]:
    """Return class -> the name of its folder: no two alike, also where a disk knows no capitals, and none that leads elsewhere."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    # Names that can stand as they are come first, so that ``a_b`` keeps its own beside ``a/b``.
    for name in sorted(set(classes), key=lambda name: (_plain(name) != name, name)):
        folder, number = _plain(name), 2
        while folder.casefold() in taken:
            folder, number = f"{_plain(name)}_{number}", number + 1
        taken.add(folder.casefold())
        names[name] = folder
    return names


def _plain(name: str) -> str:
    plain = name.replace("/", "_").replace("\\", "_").replace("\0", "_")
    return plain if plain.strip(". ") else "_" * max(len(plain), 1)


class Shelf:
    """Puts images into folders, as links or copies, under names that nobody else has there.

    Args:
        labels: Where images come from.
        here: The folder that is being made.
        there: Where it will lie: links are relative to it.
        files: ``link`` or ``copy``.
    """

    def __init__(self, labels: LabelSet, here: Path, there: Path, files: Files) -> None:
        self._labels, self._here, self._there, self._files = labels, here, there, files
        self._taken: set[str] = set()

    def put(self, id_: str, *folders: str) -> str:
        """Put an image into ``folders`` and return its path relative to the shelf.

        Raises:
            RunError: It can neither be linked nor copied.
        """
        file = self._labels.file(id_)
        name = plain_name(id_) + (".png" if file is None else "")
        place, number = "/".join((*folders, name)), 1
        while place.lower() in self._taken:  # a file system may know no capitals
            number += 1
            stem, dot, ending = name.rpartition(".")
            place = "/".join((*folders, f"{stem}-{number}.{ending}" if dot else f"{name}-{number}"))
        self._taken.add(place.lower())
        target = self._here / place
        target.parent.mkdir(parents=True, exist_ok=True)
        self._bring(id_, file, target, place)
        return place

    def _bring(self, id_: str, file: Path | None, target: Path, place: str) -> None:
        if file is None:
            from PIL import Image

            Image.fromarray(self._labels.read(id_)).save(target)
            return
        if self._files == "link":
            try:
                target.symlink_to(os.path.relpath(file.absolute(), (self._there / place).absolute().parent))
                return
            except OSError:
                pass  # a file system without links, or another drive: a copy does as well
        shutil.copyfile(file, target)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside ``folder`` that takes its place when the block ends well; an older one is replaced.

    Raises:
        RunError: It cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield made
        made.chmod(0o755)  # mkdtemp makes folders private
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    except OSError as error:
        raise RunError(
            f"the folder '{folder}' could not be written ({error.strerror or error}): free some space, or choose another "
            "place with --out"
        ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
