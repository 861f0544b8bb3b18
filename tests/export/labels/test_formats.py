"""Labels leave in many formats; what reads them back finds the same labels."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image

from fallow.config import LABEL_FORMATS
from fallow.data import open_source
from fallow.export.labels import WRITERS, LabelSet, write_labels
from fallow.export.labels.base import Files, folder_names
from fallow.record.labels import COLUMNS, PoolLabels
from tests.export.labels.pool import CLASSES, labeled_pool

ACCEPTED = {"unlabeled/a/1.png": "cat & co", "unlabeled/b/1.png": "dog", "unlabeled/2.png": "cat & co"}
GIVEN = {f"train/{name}/0.png": name for name in CLASSES}


@pytest.fixture
def labels(tmp_path: Path) -> LabelSet:
    return labeled_pool(tmp_path / "photos")


def pixels(path: str | Path) -> bytes:
    return np.asarray(Image.open(path)).tobytes()


def by_pixels(labels: LabelSet, expected: dict[str, str]) -> dict[bytes, str]:
    """Return content -> label: what a format must keep, whatever it calls the files."""
    return {pixels(labels.address(id_)): label for id_, label in expected.items()}


def read_back(folder: Path, split: str = "train") -> dict[bytes, str]:
    rows = [row for batch in open_source(folder).rows() for row in batch.to_pylist()]
    file = open_source(folder).file
    return {
        pixels(file(row["uri"])): row["labels"][0] for row in rows if row["split"] == split and row["labels"]
    }


def test_every_format_that_can_be_asked_for_can_be_written() -> None:
    assert set(LABEL_FORMATS) == {*WRITERS, "same"}


def test_a_csv_has_a_line_for_every_unlabeled_image(labels: LabelSet, tmp_path: Path) -> None:
    (path,) = write_labels(labels, tmp_path, ("csv",))
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert {row["path"]: row["label"] for row in rows if row["verdict"] == "accept"} == ACCEPTED
    assert [row["path"] for row in rows] == list(labels.pool.ids)
    assert [float(row["weight"]) for row in rows] == pytest.approx([0.99, 0.98, 0.9, 0, 0, 0])
    assert [row["agreement"] for row in rows][4] == ""


def test_a_parquet_file_keeps_the_probabilities_of_all_classes(labels: LabelSet, tmp_path: Path) -> None:
    (path,) = write_labels(labels, tmp_path, ("parquet",))
    table = pq.read_table(path)
    assert table.column_names == [*COLUMNS, "probabilities"]
    np.testing.assert_allclose(table["probabilities"].to_pylist(), labels.pool.probs)


def test_labels_come_back_from_their_own_file_as_they_were(labels: LabelSet, tmp_path: Path) -> None:
    labels.pool.write(tmp_path / "pool.parquet")
    again = PoolLabels.read(tmp_path / "pool.parquet")
    assert (again.ids, again.classes) == (labels.pool.ids, labels.pool.classes)
    for name in ("probs", "probability", "agreement", "ood_score", "verdict"):
        np.testing.assert_allclose(getattr(again, name), getattr(labels.pool, name), atol=1e-6)


@pytest.mark.parametrize("files", ["link", "copy"])
def test_class_folders_read_back_to_the_same_labels(labels: LabelSet, tmp_path: Path, files: str) -> None:
    (folder,) = write_labels(labels, tmp_path / "out", ("folders",), files)  # type: ignore[arg-type]
    assert read_back(folder) == by_pixels(labels, {**GIVEN, **ACCEPTED})
    assert read_back(folder, "test") == by_pixels(labels, {f"test/{name}/0.png": name for name in CLASSES})
    assert len(list((folder / "unlabeled").iterdir())) == 2
    assert len(list((folder / "foreign").iterdir())) == 1
    linked = [path.is_symlink() for path in folder.rglob("*.png")]
    assert all(linked) if files == "link" else not any(linked)


def test_class_folders_written_again_are_replaced_whole(labels: LabelSet, tmp_path: Path) -> None:
    for _ in range(2):
        (folder,) = write_labels(labels, tmp_path / "out", ("folders",), "copy")
    assert len(list((folder / "train").rglob("*.png"))) == 5
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["folders"]


def test_a_list_is_a_data_set_that_train_reads(labels: LabelSet, tmp_path: Path) -> None:
    (path,) = write_labels(labels, tmp_path / "out", ("list",))
    assert read_back(path) == by_pixels(labels, {**GIVEN, **ACCEPTED})
    rows = [row for batch in open_source(path).rows() for row in batch.to_pylist()]
    assert sum(row["split"] == "unlabeled" for row in rows) == 2
    assert "5.png" not in path.read_text(encoding="utf-8")


def test_data_leave_in_the_format_that_they_came_in(labels: LabelSet, tmp_path: Path) -> None:
    (folder,) = write_labels(labels, tmp_path, ("same",))
    assert folder.name == "folders"
    table = LabelSet(labels.pool, labels.given, labels.sizes, labels.file, labels.read, "table")
    (path,) = write_labels(table, tmp_path, ("same",))
    assert path.name == "data.csv"


def test_label_studio_tasks_show_the_doubtful_first(labels: LabelSet, tmp_path: Path) -> None:
    (path,) = write_labels(labels, tmp_path, ("label-studio",))
    tasks = json.loads(path.read_text(encoding="utf-8"))
    assert [task["data"]["verdict"] for task in tasks] == ["doubtful"] * 2 + ["foreign"] + ["accept"] * 3
    said = {t["data"]["path"]: t["predictions"][0]["result"][0]["value"]["choices"][0] for t in tasks}
    assert said == {id_: labels.pool.label(row) for row, id_ in enumerate(labels.pool.ids)}
    interface = (tmp_path / "label-studio.xml").read_text(encoding="utf-8")
    assert '<Choice value="cat &amp; co"/>' in interface
    result = tasks[0]["predictions"][0]["result"][0]
    assert f'name="{result["from_name"]}"' in interface
    assert f'name="{result["to_name"]}"' in interface


def test_coco_holds_one_annotation_for_every_image_that_is_not_foreign(
    labels: LabelSet, tmp_path: Path
) -> None:
    (path,) = write_labels(labels, tmp_path, ("coco",))
    found = json.loads(path.read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in found["categories"]}
    images = {one["id"]: one for one in found["images"]}
    said = {images[a["image_id"]]["path"]: names[a["category_id"]] for a in found["annotations"]}
    pool = labels.pool
    expected = {id_: pool.label(row) for row, id_ in enumerate(pool.ids) if pool.verdict[row] != 2}
    assert said == {**GIVEN, **expected}
    assert len(images) == len(said) + 1
    assert all(os.path.isfile(one["file_name"]) for one in images.values())
    assert all(a["bbox"] == [0, 0, 12, 12] and a["area"] == 144 for a in found["annotations"])


def test_fiftyone_finds_every_image_by_its_name(labels: LabelSet, tmp_path: Path) -> None:
    (folder,) = write_labels(labels, tmp_path, ("fiftyone",))
    where = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    found = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    assert where.keys() == found["labels"].keys()
    assert len(where) == 8
    assert all(os.path.isfile(path) for path in where.values())
    accepted = {
        v["attributes"]["path"]: v["label"]
        for v in found["labels"].values()
        if v["attributes"]["verdict"] == "accept"
    }
    assert accepted == ACCEPTED


def test_a_hugging_face_folder_names_files_that_are_in_it(labels: LabelSet, tmp_path: Path) -> None:
    (folder,) = write_labels(labels, tmp_path, ("huggingface",), "copy")
    lines = (folder / "train" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    back = {pixels(folder / "train" / row["file_name"]): row["label"] for row in rows}
    assert back == by_pixels(labels, {**GIVEN, **ACCEPTED})
    assert (folder / "test" / "metadata.jsonl").is_file()


@pytest.mark.parametrize("files", ["link", "copy"])
def test_hugging_faces_own_loader_finds_the_same_labels(
    labels: LabelSet, tmp_path: Path, files: Files
) -> None:
    (folder,) = write_labels(labels, tmp_path, ("huggingface",), files)
    found = load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    train = found["train"]
    assert dict(zip(train["path"], train["label"], strict=True)) == {**GIVEN, **ACCEPTED}
    back = {
        np.asarray(image).tobytes(): label
        for image, label in zip(train["image"], train["label"], strict=True)
    }
    assert back == by_pixels(labels, {**GIVEN, **ACCEPTED})
    assert len(found["test"]) == sum(one.split == "test" for one in labels.given)


def test_each_class_has_a_folder_of_its_own_and_inside() -> None:
    names = folder_names(["a/b", "a_b", "a\\b", "Cat", "cat", "..", ".", "", "a_b_2", "cat & co"])
    assert names["a_b"] == "a_b"
    assert names["a_b_2"] == "a_b_2"
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert all(name.strip(".") and not set(name) & set("/\\") for name in names.values())
    assert names == folder_names(reversed(names))


def test_images_that_are_no_files_are_written_as_files(labels: LabelSet, tmp_path: Path) -> None:
    arrays = LabelSet(labels.pool, labels.given, labels.sizes, lambda id_: None, labels.read, "arrays")
    (folder,) = write_labels(arrays, tmp_path, ("folders",))
    assert read_back(folder) == by_pixels(labels, {**GIVEN, **ACCEPTED})
