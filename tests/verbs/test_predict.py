"""The deployed model, asked from Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fallow
from fallow.export import model_at
from fallow.study.probing import trained_folder
from fallow.verbs.predict import as_csv, as_json, predict_images
from tests.photos import put, tiny


def test_the_verb_gives_what_the_result_gives(trained: fallow.Result) -> None:
    pool = trained.path.parent / "photos" / "unlabeled"
    assert fallow.predict(trained.path, str(pool)) == trained.predict(pool)
    assert [p.label for p in trained.predict(pool)] == ["cat", "dog", "emu"] * 2 + ["cat", "dog"]


def test_the_path_that_a_run_prints_last_names_its_model(trained: fallow.Result) -> None:
    assert model_at(trained.path / "model" / "model.onnx").directory == trained.path / "model"
    assert trained_folder(trained.path / "model" / "model.onnx") == trained.path / "model"


def test_an_image_is_predicted_alone_whatever_comes_with_it(trained: fallow.Result) -> None:
    images = [tiny(i % 3) for i in range(150)]
    together = trained.predict(images)
    for index in (0, 63, 64, 149):
        alone = trained.predict([images[index]])[0]
        assert alone.label == together[index].label
        assert alone.probability == pytest.approx(together[index].probability, abs=1e-5)
    assert [p.path for p in together] == [f"image {i}" for i in range(150)]


def test_files_and_their_pixels_are_predicted_alike(trained: fallow.Result, tmp_path: Path) -> None:
    image = tiny(1, seed=5)
    path = put(tmp_path / "a.png", 1, seed=5)
    assert trained.predict(path)[0].probabilities == trained.predict([image])[0].probabilities
    assert trained.predict(image)[0].probabilities == trained.predict([image])[0].probabilities


def test_many_images_pass_through_with_few_in_memory(trained: fallow.Result) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield tiny(taken % 3, seed=taken)

    predictions = predict_images(trained.model, endless())
    for number in range(1, 400):
        next(predictions)
        assert taken - number < 150


def test_predictions_reach_a_table_before_the_next_images_are_asked_for() -> None:
    asked: list[int] = []

    def slow() -> Iterator[fallow.Prediction]:
        for i in range(3):
            asked.append(i)
            yield fallow.Prediction(f"{i}.png", "cat", 0.9, {"cat": 0.9, "dog": 0.1})

    pieces = as_csv(slow())
    next(pieces)
    assert (next(pieces), asked) == ("0.png,cat,0.9000,\n", [0, 1])
    assert "".join(as_json([])) == '{"predictions": [\n]}\n'


def test_what_is_no_image_is_named(trained: fallow.Result, tmp_path: Path) -> None:
    with pytest.raises(fallow.FallowError, match="image 1 should be a uint8 array"):
        trained.predict([tiny(0), np.zeros((4, 4, 3))])
    with pytest.raises(fallow.FallowError, match="image 0 should be a uint8 array"):
        trained.predict([np.zeros((0, 4, 3), np.uint8)])
    with pytest.raises(fallow.FallowError, match="not both"):
        trained.predict([put(tmp_path / "a.png"), tiny(0)])
    with pytest.raises(fallow.FallowError, match="does not exist"):
        trained.predict(tmp_path / "nowhere")


def test_predictions_go_to_a_file(trained: fallow.Result, tmp_path: Path) -> None:
    Path("new").mkdir()
    put(Path("new/a.png"), 2)
    Path("new/b.png").write_bytes(b"")
    written = fallow.predict(trained.path, "new", out=Path("new.csv"))
    assert (written.images, written.unreadable) == (2, 1)
    assert Path("new.csv").read_text() == "".join(as_csv(trained.predict("new")))
