"""Data that nothing can be learned from is refused in one sentence, and no run is left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.checks import refused
from tests.cli.conftest import Fallow
from tests.photos import photos, put


def _nothing(here: Path) -> Path:
    (here / "data").mkdir()
    return here / "data"


def _one_class(here: Path) -> Path:
    return photos(here / "data", classes=("cat",))


def _empty_class_folder(here: Path) -> Path:
    (photos(here / "data") / "train" / "cow").mkdir()
    return here / "data"


def _all_of_a_class_damaged(here: Path) -> Path:
    for file in (photos(here / "data") / "train" / "dog").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    return here / "data"


def _labels_missing(here: Path) -> Path:
    for i in range(4):
        put(here / "data" / f"{i}.png")
    return here / "data"


def _only_unlabeled(here: Path) -> Path:
    put(here / "data" / "unlabeled" / "1.png")
    put(here / "data" / "unlabeled" / "2.png")
    return here / "data"


def _no_image_at_all(here: Path) -> Path:
    (here / "data" / "train" / "cat").mkdir(parents=True)
    (here / "data" / "train" / "cat" / "notes.txt").write_text("no photo")
    return here / "data"


def _class_of_test_alone(here: Path) -> Path:
    put(photos(here / "data") / "test" / "cow" / "1.png", 2)
    return here / "data"


def _every_picture_twice(here: Path) -> Path:
    for i in range(2):
        put(here / "data" / "cat" / f"{i}.png", 0, seed=i)
        put(here / "data" / "dog" / f"{i}.png", 0, seed=i)
    return here / "data"


def _measurements(here: Path) -> Path:
    lines = [f"{put(here / f'{i}.png', i % 3, seed=i).name},{i / 4}" for i in range(9)]
    (here / "list.csv").write_text("path,label\n" + "\n".join(lines))
    return here / "list.csv"


def _photo(here: Path) -> Path:
    return put(here / "data.png")


def _archive(here: Path) -> Path:
    (here / "data.zip").write_bytes(b"PK\x03\x04")
    return here / "data.zip"


def _pipe(here: Path) -> Path:
    os.mkfifo(here / "data.csv")
    return here / "data.csv"


def _link_to_itself(here: Path) -> Path:
    os.symlink("data", here / "data")
    return here / "data"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda here: here / "data", ("there is no folder or file", "data")),
        (lambda here: "", ("path of the data is empty",)),
        (_nothing, ("nothing found",)),
        (_no_image_at_all, ("nothing found", "notes.txt")),
        (_one_class, ("one class only", "'cat'", "two")),
        (_empty_class_folder, ("'cow'", "folder is empty")),
        (_all_of_a_class_damaged, ("'dog'", "3 could not be read", "train/dog/0.png")),
        (_labels_missing, ("labels are missing", "train/<class>/")),
        (_only_unlabeled, ("labels are missing",)),
        (_class_of_test_alone, ("'cow'", "test", "not in the training images")),
        (_every_picture_twice, ("no image is left", "two different labels")),
        (_measurements, ("look like measurements", "9 different numbers on 9 images", "'0.25'")),
        (_photo, ("data.png", "class folders")),
        (_archive, ("data.zip", "class folders")),
        (_pipe, ("data.csv", "neither a folder nor a file")),
        (_link_to_itself, ("data", "cannot be read")),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_") if callable(value) else "",
)
def test_data_without_something_to_learn_is_refused_and_leaves_no_run_behind(
    fallow: Fallow, tmp_path: Path, make: Any, named: tuple[str, ...]
) -> None:
    refused(fallow("train", make(tmp_path), "--out", "run"), *named)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", ("nothing found",)),
        ("path,label\n", ("nothing found",)),
        ("path,label\nphotos/a.png,cat\nphotos/b.png,dog,black,big\n", ("line 3", "4 columns", "quotes")),
        ('path,label\nphotos/a.png,cat\n"photos/b.png,dog\n', ("line 3", "cannot be read")),
        ("path,label\nphotos/a.png,cat\n,dog\n", ("line 3", "no path")),
        (b"path,label\nphotos/a.png,cat\n\xff\xd8\xff\xe0\x00\x10,dog\n", ("line 3", "UTF-8")),
        (b"path,label\nphotos/a.png,c\x00at\n", ("line 2", "zero bytes")),
        ("path,label\nnowhere/a.png,cat\nnowhere/b.png,dog\n", ("none of the 2 files", "nowhere/a.png")),
        ("path,label\n" + "x" * 5000 + ".png,cat\n", ("none of the 1 files",)),
        ("path,label,split\nphotos/a.png,cat,tset\n", ("line 2", "'tset'", "train, val, test")),
        (
            "path,kind,place\nphotos/a.png,cat,home\n",
            ("which column is the label", "kind, place", "one class an image"),
        ),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_with_the_number_of_the_line(
    fallow: Fallow, content: str | bytes, named: tuple[str, ...]
) -> None:
    put(Path("photos/a.png"))
    put(Path("photos/b.png"))
    Path("list.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(fallow("train", "list.csv", "--out", "run"), "list.csv", *named)
    assert not Path("run").exists()


def test_a_label_that_the_label_map_lacks_is_refused_with_its_line(fallow: Fallow) -> None:
    put(Path("data/a.png"))
    put(Path("data/b.png"))
    Path("data/train.csv").write_text("a.png,0\nb.png,7\n")
    Path("data/label_map.csv").write_text("0,cat\n1,dog\n")
    refused(fallow("train", "data", "--out", "run"), "line 2", "train.csv", "'7'", "label_map.csv")
    assert not Path("run").exists()
