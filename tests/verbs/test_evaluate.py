"""Figures on labeled images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fallow
from tests.photos import photos, put


def test_a_test_split_is_scored_as_the_run_scored_it(trained: fallow.Result) -> None:
    figures = fallow.evaluate(trained.path, str(trained.path.parent / "photos"))
    assert figures.accuracy.n == trained.study.counts.test
    assert figures.accuracy.value == trained.study.chosen.test
    assert figures.known == 0


def test_figures_are_those_of_the_predictions(trained: fallow.Result, tmp_path: Path) -> None:
    for i in range(70):
        put(tmp_path / "data" / ("cat" if i % 7 else "emu") / f"{i:02d}.png", i % 3)
    figures = fallow.evaluate(trained.path, str(tmp_path / "data"))
    said = {p.path: p.label for p in trained.predict(tmp_path / "data")}
    right = {path: label == Path(path).parent.name for path, label in said.items()}
    assert figures.accuracy.value == pytest.approx(sum(right.values()) / 70)
    assert set(figures.per_class) == {"cat", "emu"}
    recall = {
        name: [ok for path, ok in right.items() if Path(path).parent.name == name] for name in ("cat", "emu")
    }
    for name, hits in recall.items():
        assert figures.per_class[name]["images"] == len(hits)
        assert figures.per_class[name]["recall"] == pytest.approx(sum(hits) / len(hits))


def test_images_that_were_trained_on_are_counted_and_said(trained: fallow.Result, tmp_path: Path) -> None:
    data = photos(tmp_path / "data", classes=("cat", "dog"), labeled=0, pool=0, test=2)
    shutil.copy(
        trained.path.parent / "photos" / "train" / "cat" / "0.png", data / "test" / "cat" / "known.png"
    )
    figures = fallow.evaluate(trained.path, str(data))
    assert (figures.accuracy.n, figures.known) == (5, 1)
    assert "1 of these images were used in training" in figures.screen()
    assert fallow.evaluate(trained.run.model, str(data)).known == 1
    shutil.copytree(trained.run.model, tmp_path / "model")
    assert fallow.evaluate(tmp_path / "model", str(data)).known is None


def test_images_that_cannot_be_read_do_not_count_and_are_named(
    trained: fallow.Result, tmp_path: Path
) -> None:
    data = photos(tmp_path / "data", test=2)
    (data / "test" / "cat" / "0.png").write_bytes(b"")
    (data / "unlabeled" / "0.png").write_bytes(b"")
    figures = fallow.evaluate(trained.path, str(data))
    assert figures.accuracy.n == 3
    assert figures.skipped == {"test/cat/0.png": "the file has zero bytes"}
    assert "test/cat/0.png" in figures.screen()


def test_a_split_is_scored_when_asked_for_and_all_labels_where_there_is_no_test_split(
    trained: fallow.Result, tmp_path: Path
) -> None:
    data = photos(tmp_path / "data", labeled=3, test=1)
    assert fallow.evaluate(trained.path, str(data), split="train").accuracy.n == 6
    assert fallow.evaluate(trained.path, str(data)).accuracy.n == 2
    assert fallow.evaluate(trained.path, str(data / "train")).accuracy.n == 6
