"""What a run could not do is told with the true reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fallow
from fallow.config import read_config
from fallow.study import RUNGS
from fallow.study.pace import Pace
from fallow.study.rung import Cost
from tests.study.digits import decisions, figures, hasten, train, write_digits


def grouped(folder: Path, groups: int) -> Path:
    """Write digits and a list of them in which each class has ``groups`` groups, and return the list."""
    data = write_digits(folder, classes=(0, 1), labels=4, pool=6, test=2)
    lines = ["path,label,group"]
    for number, file in enumerate(sorted((data / "train").rglob("*.png"))):
        name = file.parent.name
        lines.append(f"{file.relative_to(data)},{name},{name}-{number % groups}")
    lines += [f"{file.relative_to(data)},," for file in sorted((data / "unlabeled").iterdir())]
    (data / "list.csv").write_text("\n".join(lines))
    return data / "list.csv"


def test_one_group_in_each_class_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    result = train(grouped(tmp_path / "data", groups=1), tmp_path / "run")
    assert "all labels of a class in one group" in result.verdict
    assert "one label" not in result.verdict
    made = decisions(tmp_path / "run")
    assert made["choose.folds"]["value"] == 0
    assert "one group" in made["choose.folds"]["rule"]
    assert "choose.repeats" not in made
    assert figures(tmp_path / "run")["unmeasured"] == "all labels of a class in one group"
    assert "one group" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_two_groups_in_each_class_can_be_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    result = train(grouped(tmp_path / "data", groups=2), tmp_path / "run")
    assert result.study.chosen.held_out is not None
    assert result.study.unmeasured == ""


def test_a_run_that_follows_one_whose_rung_was_skipped_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write_digits(tmp_path / "data", classes=(0, 1), pool=6, test=2)
    with monkeypatch.context() as hurry:
        hurry.setattr(Pace, "left", property(lambda self: -1.0))
        hurry.setattr(RUNGS["propagate"], "estimate", lambda ctx: Cost(60.0))
        train(data, tmp_path / "one", rungs="probe,propagate")
    notes = []
    for before, after in (("one", "two"), ("two", "three")):
        config = tmp_path / before / "config.yaml"
        assert read_config(config)["rungs"] == "probe,propagate"
        result = fallow.train(str(data), config=config, out=tmp_path / after, show="nothing")
        assert [rung.rung for rung in result.study.rungs] == ["probe"]
        assert result.study.pool_use == "no time then"
        assert "asked for" not in result.verdict
        assert "The run that this one follows had no time" in result.verdict
        assert decisions(tmp_path / after)["propagate.folds"]["value"] == "skipped"
        notes.append([note for note in result.study.notes if "propagate was skipped" in note])
    assert notes[0] == notes[1]
    assert notes[0][0].startswith(
        "As in the run that this one follows: propagate was skipped: it needs about 60 s"
    )


def test_on_other_data_a_skipped_rung_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write_digits(tmp_path / "data", classes=(0, 1), pool=6, test=2)
    with monkeypatch.context() as hurry:
        hurry.setattr(Pace, "left", property(lambda self: -1.0))
        hurry.setattr(RUNGS["propagate"], "estimate", lambda ctx: Cost(60.0))
        train(data, tmp_path / "one", rungs="probe,propagate")
    other = write_digits(tmp_path / "other", classes=(4, 7), pool=6, test=2)
    config = tmp_path / "one" / "config.yaml"
    result = fallow.train(str(other), config=config, out=tmp_path / "two", show="nothing")
    assert [rung.rung for rung in result.study.rungs] == ["probe", "propagate"]


@pytest.mark.parametrize(
    ("split", "told"),
    [("test", "None of the 4 test images"), ("val", "None of the 4 validation images")],
)
def test_a_split_of_damaged_images_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, told: str
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write_digits(tmp_path / "data", classes=(0, 1), pool=4, test=2)
    if split == "val":
        shutil.copytree(data / "test", data / "val")
    for file in (data / split).rglob("*.png"):
        file.write_bytes(b"no image")
    result = train(data, tmp_path / "run", rungs="probe")
    (note,) = [note for note in result.study.notes if told in note]
    assert f"'{split}/0/" in note
    assert figures(tmp_path / "run")["notes"] == list(result.study.notes)
    assert (result.study.chosen.test is None) == (split == "test")


def test_a_split_with_one_image_left_is_not_said_to_be_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write_digits(tmp_path / "data", classes=(0, 1), pool=4, test=2)
    next((data / "test").rglob("*.png")).write_bytes(b"no image")
    result = train(data, tmp_path / "run", rungs="probe")
    assert result.study.counts.test == 3
    assert not [note for note in result.study.notes if "None of the" in note]
