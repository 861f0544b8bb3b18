"""Weights and models that cannot be used are refused in one sentence, as is what is asked of a model."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.checks import refused
from tests.cli.conftest import Fallow
from tests.photos import photos, put

NETWORK = ("--backbone", "tf_efficientnet_lite0")


# --- weights --------------------------------------------------------------------------------------------------------


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": _Code()}))


def _saved_object(path: Path) -> None:
    torch.save({"weight": _Code()}, path)


@pytest.mark.parametrize(
    ("name", "write", "named"),
    [
        ("none.pt", None, ("no such file",)),
        ("some.txt", lambda path: path.write_text("x"), ("type is unknown", ".safetensors")),
        ("some.pt", lambda path: path.write_text("x"), ("damaged",)),
        ("some.safetensors", lambda path: path.write_text("x"), ("cannot be read",)),
        ("code.pt", _pickle, ("cannot be read",)),
        ("code.pth", _saved_object, ("code or objects", "state_dict")),
        (
            "other.pt",
            lambda path: torch.save({"a": torch.zeros(3)}, path),
            ("do not fit", "missing", "unexpected: a"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_that_cannot_be_used_are_refused_and_no_code_in_them_runs(
    fallow: Fallow, tmp_path: Path, name: str, write: Any, named: tuple[str, ...]
) -> None:
    if write is not None:
        write(tmp_path / name)
    data = photos(tmp_path / "data")
    refused(fallow("train", data, "--out", "run", *NETWORK, "--weights", name), name, *named)
    assert not Path("ran").exists()
    assert not Path("run").exists()


def test_weights_for_a_backbone_that_has_none_are_refused(fallow: Fallow, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, "some.pt")
    refused(fallow("train", photos(tmp_path / "data"), "--weights", "some.pt"), "'pixels' has no weights")


def test_a_backbone_without_weights_on_this_machine_is_refused_offline(
    fallow: Fallow, tmp_path: Path
) -> None:
    refused(
        fallow("train", photos(tmp_path / "data"), "--out", "run", "--backbone", "resnet18"),
        *("'resnet18'", "offline", "--weights"),
    )
    assert not Path("run").exists()


# --- predict, evaluate, export, init, demo, doctor ------------------------------------------------------------------


def test_predict_refuses_what_it_cannot_find(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    run, image = trained / "run", put(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    refused(fallow("predict", run), "give the images")
    refused(fallow("predict", run, image, "nowhere.png"), "'nowhere.png'", "does not exist")
    refused(fallow("predict", run, "*.tiff"), "'*.tiff'", "matches nothing")
    refused(fallow("predict", run, "empty"), "'empty'", "no images")
    refused(fallow("predict", "nowhere", image), "'nowhere'", "no model")
    refused(fallow("predict", tmp_path, image), "no model", "run directory")
    refused(fallow("predict", run, image, "--format", "xml"), "xml", "csv", "jsonl")


def test_predict_refuses_a_damaged_model(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    image = put(tmp_path / "a.png")
    for name, content, named in (
        ("model.onnx", b"x", "is damaged"),
        ("model.safetensors", None, "is missing"),
        ("model.json", b"{", "JSON"),
        ("model.json", b"[]", "format"),
        ("model.json", b'{"format": 1}', "incomplete"),
    ):
        shutil.copytree(trained / "run" / "model", "model")
        (tmp_path / "model" / name).unlink()
        if content is not None:
            (tmp_path / "model" / name).write_bytes(content)
        refused(fallow("predict", "model", image), name, named)
        shutil.rmtree("model")


def test_predict_says_of_a_stopped_run_how_to_go_on(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", "run", ignore=shutil.ignore_patterns("model"))
    refused(fallow("predict", "run", put(tmp_path / "a.png")), "'run'", "--resume")


def test_predict_lists_what_it_cannot_read_and_predicts_the_rest(fallow: Fallow, trained: Path) -> None:
    put(Path("new/a.png"), 1)
    Path("new/b.png").write_bytes(b"")
    os.symlink("nowhere", "new/c.png")
    ran = fallow("predict", trained / "run", "new")
    assert ran.code == 0
    assert [line.split(",")[1] for line in ran.out.splitlines()] == ["label", "dog", "", ""]
    assert "zero bytes" in ran.out.splitlines()[2]
    assert ran.err.startswith("fallow: 2 of 3 images could not be read; the first is 'new/b.png'")
    only_bad = fallow("predict", trained / "run", "new/b.png")
    assert only_bad.code == 2
    assert "none of the 1 images can be read" in only_bad.err
    assert "zero bytes" in only_bad.out


def test_predict_refuses_a_file_that_cannot_be_written_and_leaves_the_old_one(
    fallow: Fallow, trained: Path
) -> None:
    put(Path("new/a.png"))
    Path("old.csv").write_text("old")
    refused(fallow("predict", trained / "run", "new", "--out", "new"), "'new'", "cannot be written")
    refused(fallow("predict", trained / "run", "new", "--out", "old.csv/x"), "cannot be written")
    refused(fallow("predict", trained / "run", "new", "--out", "/dev/full"), "/dev/full", "disk is full")
    refused(fallow("predict", trained / "run", "nowhere", "--out", "old.csv"), "'nowhere'")
    assert Path("old.csv").read_text() == "old"
    assert sorted(p.name for p in Path().iterdir()) == ["new", "old.csv"]


def test_evaluate_refuses_what_it_cannot_measure(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    run = trained / "run"
    photos(tmp_path / "cows", classes=("cat", "cow"))
    photos(tmp_path / "bad", labeled=0, pool=1)
    for file in (tmp_path / "bad" / "test").rglob("*.png"):
        file.write_bytes(b"")
    refused(fallow("evaluate", run, "nowhere"), "'nowhere'")
    refused(fallow("evaluate", run, "cows"), "'cow'", "cat, dog")
    refused(fallow("evaluate", run, "cows/unlabeled"), "no labeled images")
    refused(fallow("evaluate", run, "cows", "--split", "tset"), "tset", "test")
    refused(fallow("evaluate", run, "cows", "--split", "val"), "no labeled images in val", "train, test")
    refused(fallow("evaluate", run, "bad"), "none of the 4 labeled images", "zero bytes")
    refused(fallow("evaluate", tmp_path / "cows", "cows"), "no model")


def test_export_refuses_a_place_that_is_taken(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    put(tmp_path / "taken" / "a.png")
    Path("file").write_text("mine")
    refused(fallow("export", trained / "run", "--out", "taken"), "'taken'", "not empty")
    refused(fallow("export", trained / "run", "--out", "file"), "'file'", "not empty")
    refused(fallow("export", trained / "run", "--out", "file/model"), "'file/model'", "cannot be written")
    refused(fallow("export", trained / "run", "--format", "tflite"), "tflite", "onnx")
    refused(fallow("export", "taken", "--out", "model"), "'taken'", "no model")
    assert sorted(p.name for p in Path().iterdir()) == ["file", "taken"]


def test_init_refuses_a_place_that_is_taken(fallow: Fallow) -> None:
    Path("mine.yaml").write_text("mine")
    refused(fallow("init", "mine.yaml"), "'mine.yaml'", "there already")
    refused(fallow("init", "mine.yaml/x.yaml"), "cannot be written")
    assert Path("mine.yaml").read_text() == "mine"


def test_demo_refuses_before_it_writes_anything(fallow: Fallow) -> None:
    Path("file").write_text("mine")
    refused(fallow("demo", "file"), "'file'", "not empty")
    refused(fallow("demo", "new", "--seed", "-1"), "'seed'")
    refused(fallow("demo", "new", "--budget", "soon"), "'budget'", "soon")
    refused(fallow("demo", "file/new"), "cannot be written")
    assert [p.name for p in Path().iterdir()] == ["file"]


def test_doctor_says_what_is_wrong_with_the_cache(fallow: Fallow, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("no folder")
    monkeypatch.setenv("FALLOW_CACHE", str(Path("file").absolute()))
    ran = fallow("doctor")
    assert ran.code == 0
    assert "set FALLOW_CACHE to a folder" in ran.out
