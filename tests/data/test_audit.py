from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fallow.data import (
    ArraySource,
    FolderSource,
    ImageReader,
    ImageTable,
    audit,
    check_trainable,
    limit_validation,
    open_source,
    several_in_one,
)
from fallow.errors import DataError, RunError
from tests.data.conftest import encoded, picture, put


def test_a_clean_data_set(photos: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = audit(open_source(photos), progress=lambda *args: seen.append(args))
    check_trainable(found)
    assert found.counts() == {
        "labeled": 6,
        "unlabeled": 4,
        "validation": 0,
        "test": 2,
        "classes": 2,
        "skipped": 0,
        "leaks": 0,
        "conflicts": 0,
        "pool_twins": 0,
    }
    assert found.table.ids() == sorted(found.table.ids())
    assert found.short_side_median == 80
    assert found.channels == "color"
    assert all(len(h) == 32 for h in found.table.images["pixel_hash"].to_pylist())
    assert seen[-1] == ("reading images", 12, 12)
    json.dumps(found.to_json(), allow_nan=False)


def test_every_image_is_read_once(photos: Path) -> None:
    class Counting(FolderSource):
        opened: list[str] = []  # noqa: RUF012
        lock = threading.Lock()

        def open(self, uri: str) -> bytes:
            with self.lock:
                self.opened.append(uri)
            return super().open(uri)

    put(photos / "unlabeled" / "twin.jpg", seed=200)
    source = Counting(photos)
    audit(source, workers=4)
    assert sorted(source.opened) == sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.*"))


def test_damage_is_listed_with_its_reason(photos: Path) -> None:
    pool = photos / "unlabeled"
    (pool / "empty.jpg").write_bytes(b"")
    (pool / "text.jpg").write_text("not an image")
    (pool / "half.jpg").write_bytes(encoded(picture(1), "JPEG")[:2000])
    (pool / "notes.txt").write_text("take the camera along")
    found = audit(open_source(photos))
    assert {s.id.split("/")[1]: (s.kind, s.split) for s in found.skipped} == {
        "empty.jpg": ("empty", "unlabeled"),
        "half.jpg": ("truncated", "unlabeled"),
        "notes.txt": ("not_an_image", "unlabeled"),
        "text.jpg": ("not_an_image", "unlabeled"),
    }
    assert all(s.reason for s in found.skipped)
    check_trainable(found)


def test_same_result_with_any_number_of_threads(photos: Path) -> None:
    one, many = audit(open_source(photos), workers=1), audit(open_source(photos), workers=7)
    assert one.table.images.equals(many.table.images)


def copy(photos: Path, source: str, target: str) -> None:
    shutil.copy(photos / source, photos / target)


def test_a_twin_of_a_test_image_leaves_training_and_pool(photos: Path) -> None:
    copy(photos, "test/cat/t.jpg", "train/cat/leak.jpg")
    copy(photos, "test/dog/t.jpg", "unlabeled/leak.jpg")
    found = audit(open_source(photos))
    assert [(leak.id, leak.split, leak.twin, leak.twin_split, leak.how) for leak in found.leaks] == [
        ("train/cat/leak.jpg", "train", "test/cat/t.jpg", "test", "same file"),
        ("unlabeled/leak.jpg", "unlabeled", "test/dog/t.jpg", "test", "same file"),
    ]
    assert found.counts()["test"] == 2
    assert not {"train/cat/leak.jpg", "unlabeled/leak.jpg"} & set(found.table.ids())


def test_a_twin_of_a_validation_image_leaves_training(photos: Path) -> None:
    put(photos / "val" / "cat" / "v.png", seed=300)
    put(photos / "val" / "dog" / "v.png", seed=301)
    copy(photos, "val/cat/v.png", "train/cat/v.png")
    copy(photos, "test/dog/t.jpg", "val/dog/t.jpg")
    found = audit(open_source(photos))
    assert [(leak.id, leak.twin_split) for leak in found.leaks] == [
        ("train/cat/v.png", "val"),
        ("val/dog/t.jpg", "test"),
    ]


def test_labeled_twins_stay_together_and_pool_twins_count_once(photos: Path) -> None:
    copy(photos, "train/cat/0.png", "train/cat/copy.png")
    copy(photos, "train/dog/0.png", "unlabeled/known.png")
    copy(photos, "unlabeled/1.png", "unlabeled/9.png")
    copy(photos, "test/cat/t.jpg", "test/cat/u.jpg")
    found = audit(open_source(photos))
    groups = dict(zip(found.table.ids(), found.table.images["group"].to_pylist(), strict=True))
    assert groups["train/cat/0.png"] == groups["train/cat/copy.png"] is not None
    assert groups["train/cat/1.png"] is None
    assert {"test/cat/t.jpg", "test/cat/u.jpg"} <= set(groups)
    assert "unlabeled/known.png" not in groups
    assert ("unlabeled/1.png" in groups, "unlabeled/9.png" in groups) == (True, False)
    assert found.pool_twins == 2
    assert [t.ids for t in found.twins if "train/cat/0.png" in t.ids] == [
        ("train/cat/0.png", "train/cat/copy.png")
    ]


def test_one_picture_with_two_labels_leaves_in_all_copies(photos: Path) -> None:
    copy(photos, "train/cat/0.png", "train/dog/cat.png")
    copy(photos, "train/cat/0.png", "unlabeled/cat.png")
    copy(photos, "train/cat/1.png", "test/dog/cat.png")
    found = audit(open_source(photos))
    assert [(c.ids, c.labels) for c in found.conflicts] == [
        (("test/dog/cat.png", "train/cat/1.png"), ("cat", "dog")),
        (("train/cat/0.png", "train/dog/cat.png", "unlabeled/cat.png"), ("cat", "dog")),
    ]
    assert not {i for c in found.conflicts for i in c.ids} & set(found.table.ids())


def test_given_groups_join_with_twins(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path / f"{i}.png", seed=i)
    shutil.copy(tmp_path / "1.png", tmp_path / "4.png")
    lines = ["path,label,group", "0.png,a,p1", "1.png,a,p1", "2.png,b,p2", "3.png,b,", "4.png,a,p9"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    table = audit(open_source(tmp_path / "list.csv")).table
    groups = table.column("group", [f"{i}.png" for i in range(5)])
    assert groups == ["p1", "p1", "p2", None, "p1"]


def test_the_test_images_have_no_say_in_the_pixel_scale() -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 1000, (8, 16, 16)).astype(np.uint16)
    bright = rng.integers(0, 60000, (4, 16, 16)).astype(np.uint16)
    labels = [0, 1] * 4
    alone = audit(ArraySource((deep, labels)))
    found = audit(ArraySource((deep, labels), test=(bright, labels[:4])))
    assert found.scale == alone.scale is not None
    assert found.scale.high < 1000
    assert found.decisions[0].evidence["images"] == 12
    hashes = {
        a: audit(ArraySource((deep * f, labels))).table.images["pixel_hash"][0]
        for a, f in (("x", 1), ("y", 2))
    }
    assert hashes["x"] != hashes["y"]


def test_table_round_trip(photos: Path, tmp_path: Path) -> None:
    table = audit(open_source(photos)).table
    table.write(tmp_path / "splits.parquet")
    again = ImageTable.read(tmp_path / "splits.parquet")
    assert again.images.equals(table.images)
    assert again.labels() == table.labels()
    part = table.keep(["unlabeled/0.png", "train/cat/1.png", "unknown"])
    assert part.ids() == ["train/cat/1.png", "unlabeled/0.png"]
    assert part.labels() == {"train/cat/1.png": "cat"}
    (tmp_path / "no.parquet").write_text("hello")
    with pytest.raises(RunError, match=r"no.parquet"):
        ImageTable.read(tmp_path / "no.parquet")


def test_reader_and_thumbnails(photos: Path) -> None:
    found = audit(open_source(photos))
    reader = ImageReader(found.source, found.table, found.scale)
    np.testing.assert_array_equal(reader.read("train/dog/2.png"), picture(12))
    import io

    with Image.open(io.BytesIO(reader.thumbnail("train/dog/2.png", 32))) as small:
        assert (small.format, max(small.size)) == ("WEBP", 32)


def sentence(root: Path) -> str:
    with pytest.raises(DataError) as error:
        check_trainable(audit(open_source(root)))
    text = str(error.value)
    assert "\n" not in text
    assert str(root) in text
    return text


def test_what_cannot_be_trained_on(photos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "nothing found" in sentence(empty)
    (empty / "notes.txt").write_text("hello")
    assert "'notes.txt': it is not an image" in sentence(empty)
    assert "labels are missing" in sentence(photos / "unlabeled")
    shutil.copytree(photos / "train" / "cat", tmp_path / "one" / "train" / "cat")
    assert "one class only, 'cat'" in sentence(tmp_path / "one")
    put(photos / "test" / "bird" / "1.png", seed=400)
    assert "the class 'bird' is in the test images" in sentence(photos)


def test_several_classes_in_one_label_are_told(tmp_path: Path) -> None:
    def said(*labels: str) -> str:
        rows = [f"{put(tmp_path / f'{i}.png', i).name};{label}" for i, label in enumerate(labels)]
        (tmp_path / "list.csv").write_text("\n".join(["path;label", *rows]))
        return several_in_one(audit(open_source(tmp_path / "list.csv")))

    assert said("dog", "dog|beach").startswith("'dog|beach' is taken as one class")
    assert said("tench, Tinca tinca", "crane, bird", "1-2") == ""


def test_a_class_without_a_readable_image(photos: Path) -> None:
    for file in (photos / "train" / "dog").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert "the class 'dog'" in sentence(photos)
    shutil.rmtree(photos / "train" / "dog")
    (photos / "train" / "dog").mkdir()
    assert "its folder is empty" in sentence(photos)


def test_images_of_test_without_a_label(photos: Path) -> None:
    put(photos / "test" / "loose.png", seed=500)
    found = audit(open_source(photos))
    assert [(s.id, s.kind) for s in found.skipped] == [("test/loose.png", "no_label")]


def test_a_large_validation_split_is_cut() -> None:
    images = np.stack([picture(i, 12, 12) for i in range(60)])
    labels = ["a", "b", "b"] * 20
    found = audit(
        ArraySource((images[:12], labels[:12]), val=(images[12:], labels[12:]), unlabeled=images[:1] // 2)
    )
    table, decision = limit_validation(found.table, seed=0)
    assert decision is not None
    assert decision.value == 12
    val = list(table.labels("val").values())
    assert (val.count("a"), val.count("b")) == (4, 8)
    assert len(table.labels("train")) == 48
    assert len(table.ids("unlabeled")) == 1
    assert limit_validation(found.table, seed=0)[0].images.equals(table.images)
    assert not limit_validation(found.table, seed=1)[0].images.equals(table.images)
    assert limit_validation(table, seed=0) == (table, None)
