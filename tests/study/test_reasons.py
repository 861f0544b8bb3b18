"""What a run could not do is told with the true reason."""

from __future__ import annotations

from pathlib import Path

import pytest

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
