"""`fallow label` from the words to the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.checks import refused
from tests.cli.conftest import Fallow
from tests.photos import photos

QUICK = ("--offline", "--backbone", "pixels", "--budget", "30s", "--set", "choose.repeats=1", "--quiet")


def test_labels_are_told_as_json_and_lie_in_the_folder(fallow: Fallow, trained: Path) -> None:
    ran = fallow(
        "label",
        trained / "photos",
        "--model",
        trained / "run",
        "--coverage",
        "0.5",
        "--out",
        "out",
        "--json",
        *QUICK,
    )
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found == {**json.loads(Path("out/label.json").read_text()), "run": "out"}
    assert found["accepted"] == 4
    assert Path("out/labels.csv").is_file()
    assert Path("out/labels.html").is_file()


def test_nothing_accepted_is_no_failure(fallow: Fallow, trained: Path) -> None:
    ran = fallow("label", trained / "photos", "--certify", "--out", "out", *QUICK)
    assert ran.code == 0
    assert ran.out.startswith(
        "None of the 8 unlabeled images was labeled: not certifiable with 6 held-out labels"
    )
    assert json.loads(Path("out/label.json").read_text())["accepted"] == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--model", "nowhere/run"), "'nowhere/run' is no model"),
        (("--precision", "95"), "give a number above 0 and below 1"),
        (("--precision", "0.9", "--coverage", "0.5"), "one of the two"),
        (("--rounds", "0"), "rounds"),
        (("--rounds", "2", "--model", "broken.onnx"), "leave --model out, or --rounds"),
        (("--format", "yolo"), "'yolo' is not a format"),
        (("--model", "broken.onnx"), "cannot be opened as an ONNX model"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    fallow: Fallow, trained: Path, words: tuple[str, ...], named: str
) -> None:
    Path("broken.onnx").write_bytes(b"no model")
    refused(fallow("label", trained / "photos", "--out", "out", *words, *QUICK), named)
    assert not Path("out/label.json").exists()


def test_images_without_any_label_need_a_model(fallow: Fallow, tmp_path: Path) -> None:
    photos(tmp_path / "data", labeled=0, test=0)
    refused(fallow("label", tmp_path / "data" / "unlabeled", "--out", "out", *QUICK), "labels are missing")
