"""Who is learned from and who judges."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fallow.data import audit, open_source
from fallow.errors import DataError
from fallow.record import DecisionLog
from fallow.study.pretraining.data import PretrainData
from tests.study.digits import write_digits


def _data(folder: Path, method: str = "auto") -> PretrainData:
    return PretrainData.build(audit(open_source(str(folder))), 0, DecisionLog(), method)


def test_a_flat_folder_is_enough_and_nothing_is_held_out(tmp_path: Path) -> None:
    write_digits(tmp_path / "data", labels=0, pool=5, test=0)
    flat = tmp_path / "data" / "unlabeled"
    data = _data(flat)
    assert len(data.pool_ids) == 20
    assert data.judge_ids == ()
    assert data.classes == ()


def test_images_of_test_and_those_that_judge_are_never_learned_from(tmp_path: Path) -> None:
    data = _data(write_digits(tmp_path, labels=4, pool=5, test=3))
    assert len(data.judge_ids) == 16
    assert len(data.test_ids) == 12
    assert not {*data.pool_ids} & {*data.judge_ids, *data.test_ids}
    assert all(i.startswith("unlabeled/") for i in data.pool_ids)


def test_copies_of_what_judges_are_never_learned_from(tmp_path: Path) -> None:
    write_digits(tmp_path, labels=4, pool=5, test=3)
    for place in ("train", "test"):
        file = next((tmp_path / place / "0").iterdir())
        shutil.copy(file, tmp_path / "unlabeled" / f"copy-of-{place}.png")
        Image.open(file).save(tmp_path / "unlabeled" / f"again-{place}.bmp")
    data = _data(tmp_path)
    assert not [i for i in data.pool_ids if "copy" in i or "again" in i]
    assert len(data.pool_ids) == 20


def test_members_of_a_group_that_judges_are_never_learned_from(tmp_path: Path) -> None:
    write_digits(tmp_path / "images", labels=4, pool=5, test=3)
    files = sorted((tmp_path / "images").rglob("*.png"))
    lines = ["path,label,split,group"]
    for number, file in enumerate(files):
        part = file.relative_to(tmp_path / "images").parts
        label = part[1] if part[0] != "unlabeled" else ""
        split = "train" if part[0] == "unlabeled" else part[0]
        lines.append(f"{file.relative_to(tmp_path)},{label},{split},{number % 7}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    # All seven groups have images that judge: nobody is left to learn from.
    with pytest.raises(DataError, match="0 images to learn from"):
        _data(tmp_path / "list.csv")


def test_of_many_labels_a_part_judges_class_by_class_and_the_rest_is_learned_from(tmp_path: Path) -> None:
    data = _data(write_digits(tmp_path, labels=40, pool=0, test=0))
    assert len(data.judge_ids) + len(data.pool_ids) == 160
    assert 30 <= len(data.judge_ids) <= 60
    counts = np.bincount(data.y)
    assert counts.min() >= 8
    assert counts.max() - counts.min() <= 2


def test_a_validation_split_judges_and_other_labels_are_learned_from(tmp_path: Path) -> None:
    write_digits(tmp_path, labels=6, pool=5, test=0)
    for folder in (tmp_path / "train").iterdir():
        (tmp_path / "val" / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:2]:
            shutil.move(file, tmp_path / "val" / folder.name / file.name)
    data = _data(tmp_path)
    assert all(i.startswith("val/") for i in data.judge_ids)
    assert len(data.judge_ids) == 8
    assert len([i for i in data.pool_ids if i.startswith("train/")]) == 16


def test_a_class_with_one_label_does_not_judge(tmp_path: Path) -> None:
    write_digits(tmp_path, labels=3, pool=5, test=0)
    for file in sorted((tmp_path / "train" / "7").iterdir())[1:]:
        file.unlink()
    data = _data(tmp_path)
    assert data.left_out == ("7",)
    assert data.classes == ("0", "1", "4")
    assert len(data.y) == 9


def test_where_labels_are_learned_from_half_of_them_judge_and_the_others_teach(tmp_path: Path) -> None:
    write_digits(tmp_path, labels=6, pool=5, test=3)
    file = next((tmp_path / "train" / "0").iterdir())
    shutil.copy(file, tmp_path / "unlabeled" / "copy.png")
    data, without = _data(tmp_path, "supcon"), _data(tmp_path, "simclr")
    assert not {*data.pool_ids} & {*data.judge_ids, *data.test_ids}
    assert (len(data.judge_ids), data.labels) == (12, 12)
    names = sorted(p.name for p in (tmp_path / "train").iterdir())
    for image, label in zip(data.pool_ids, data.taught.tolist(), strict=True):
        part = image.split("/")
        assert (part[0] == "train") == (label >= 0)
        assert label < 0 or part[1] == names[label]
    assert (len(without.judge_ids), without.labels) == (24, 0)
    assert data.fingerprint() != without.fingerprint()


def test_members_of_a_group_that_judges_do_not_teach(tmp_path: Path) -> None:
    write_digits(tmp_path / "images", labels=8, pool=0, test=0)
    files = sorted((tmp_path / "images").rglob("*.png"))
    lines = ["path,label,group"]
    lines += [
        f"{f.relative_to(tmp_path)},{f.parent.name},{number % 8 // 2}" for number, f in enumerate(files)
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    data = _data(tmp_path / "list.csv", "triplet")
    groups = dict(zip(data.table.ids(), data.table.images["group"].to_pylist(), strict=True))
    assert data.labels > 0
    assert not {groups[i] for i in data.pool_ids} & {groups[i] for i in data.judge_ids}
