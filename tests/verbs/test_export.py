"""A copy of the model that is the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import fallow
from tests.photos import tiny


def test_a_copy_of_the_whole_model_predicts_as_the_run_does(trained: fallow.Result, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    said = fallow.export(trained.path, out=tmp_path / "model")
    assert "model.onnx" in said.text
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == sorted(
        p.name for p in trained.run.model.iterdir()
    )
    image = tiny(1, seed=3)
    assert fallow.load(trained.path).predict([image]) == trained.predict([image])
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_the_onnx_file_alone_is_all_that_other_programs_need(trained: fallow.Result, tmp_path: Path) -> None:
    fallow.export(trained.path, out=tmp_path / "app" / "model", format="onnx")
    names = sorted(p.name for p in (tmp_path / "app" / "model").iterdir())
    assert names == ["labels.json", "model.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "app" / "model" / "model.onnx"))
    classes = json.loads((tmp_path / "app" / "model" / "labels.json").read_text())
    image = tiny(2, seed=4)
    (probs,) = session.run(["probs"], {"image": image})
    expected = trained.predict([image])[0]
    assert classes[int(np.argmax(probs))] == expected.label
    assert float(probs.max()) == pytest.approx(expected.probability, abs=1e-5)


def test_a_copy_that_fails_leaves_nothing_behind(
    trained: fallow.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(fallow.FallowError, match="No space left"):
            fallow.export(trained.path, out=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_verb_keeps_its_name_beside_the_room_of_the_same_name() -> None:
    import importlib

    room = importlib.import_module("fallow.export")
    assert fallow.export is not room
    assert callable(fallow.export)
    assert callable(room.load_bundle)
