"""A student of a real run, in seconds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
import pytest
import yaml
from safetensors.numpy import load_file

import fallow
from fallow.config import DistillConfig
from fallow.errors import ConfigError, DataError
from fallow.study.distilling import job
from tests.study.digits import train, write_digits

QUICK: dict[str, Any] = {
    "offline": True,
    "show": "nothing",
    "budget": "10m",
    "network": {"student": "small_resnet_8", "size": 8},
    "embed": {"backbone": "pixels"},
    "set": {"optimization.steps": 12, "optimization.batch_size": 8},
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a teacher in ``run`` and its student in ``small``; not to be changed."""
    place = tmp_path_factory.mktemp("distill")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLOW_CACHE", str(place / "cache"))
        train(write_digits(place / "data"), place / "run")
        distill(place, "small")
    return place


@pytest.fixture(autouse=True)
def cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_CACHE", str(here / "cache"))


def distill(here: Path, out: str, **options: Any) -> fallow.Distilled:
    asked = {"teacher": here / "run", **QUICK, **options}
    return fallow.distill(str(here / "data"), out=here / out, **asked)


def test_teacher_and_student_stand_side_by_side(here: Path) -> None:
    figures = json.loads((here / "small" / "distill.json").read_text())
    assert list(figures["models"]) == ["teacher", "student", "int8"]
    assert figures["measured_on"] == "test"
    assert figures["images"] == 24
    teacher, student = figures["models"]["teacher"], figures["models"]["student"]
    gap = figures["difference"]
    assert gap["value"] == pytest.approx(student["accuracy"]["value"] - teacher["accuracy"]["value"])
    assert gap["low"] <= gap["value"] <= gap["high"]
    reads = [
        json.loads(line)["rung"] for line in (here / "small" / "test_reads.jsonl").read_text().splitlines()
    ]
    assert reads == ["teacher", "student", "int8"]
    screen = fallow.Distilled(fallow.load(here / "run").run.__class__(here / "small"), figures).screen()
    assert "of its teacher's accuracy on 24 test images" in screen
    assert max(map(len, screen.splitlines()[2:9])) <= 80


def test_the_file_with_8_bits_is_smaller_and_answers_like_the_student(here: Path) -> None:
    folder = here / "small" / "model"
    plain, small = folder / "model.onnx", folder / "model.int8.onnx"
    assert small.stat().st_size < plain.stat().st_size
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 11, 3), dtype=np.uint8)
    sessions = [ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (plain, small)]
    one, other = (np.stack([s.run(["probs"], {"image": x})[0] for x in images]) for s in sessions)
    assert np.abs(one - other).max() < 0.1
    assert sessions[1].get_modelmeta().custom_metadata_map["task"] == "classification"


def test_the_student_is_a_model_like_any_other(here: Path) -> None:
    found = fallow.predict(here / "small", str(here / "data" / "test"))
    assert len(found) == 24
    assert sum(found[0].probabilities.values()) == pytest.approx(1, abs=1e-4)


def test_stopped_in_the_middle_and_resumed_it_is_the_same_student(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "save_bundle", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        distill(here, "stopped")
    monkeypatch.undo()
    monkeypatch.setenv("FALLOW_CACHE", str(here / "cache"))
    # How much of the pool takes part depends on the clock: the run that goes on has the answers of the part that took part.
    monkeypatch.setattr(job, "plan_spaces", lambda *given: pytest.fail("planned again"))
    distill(here, "stopped", resume=True)
    assert_same(here / "small", here / "stopped")


def test_the_config_that_a_run_leaves_makes_the_same_student(here: Path) -> None:
    fallow.distill(
        str(here / "data"), config=here / "small" / "config.yaml", out=here / "again", show="nothing"
    )
    assert_same(here / "small", here / "again")


def test_a_replay_takes_over_what_the_clock_settled_and_plans_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = job.plan_spaces
    monkeypatch.setattr(job, "plan_spaces", lambda *given: replace(planned(*given), pool=40))
    made = distill(here, "less")
    assert made.figures["learned_from"] == 40
    written = yaml.safe_load((here / "less" / "config.yaml").read_text())
    written["replay"]["cuts"] = {"distill": 7}  # as a run leaves it that was ended by a slow machine
    (here / "cut.yaml").write_text(yaml.safe_dump(written))
    monkeypatch.setattr(job, "plan_spaces", lambda *given: pytest.fail("planned again"))
    again = fallow.distill(
        str(here / "data"), config=here / "less" / "config.yaml", out=here / "less-again", show="nothing"
    )
    assert again.figures["learned_from"] == 40
    assert_same(here / "less", here / "less-again")
    cut = fallow.distill(str(here / "data"), config=here / "cut.yaml", out=here / "cut", show="nothing")
    assert cut.figures["steps"] == 7
    kept = yaml.safe_load((here / "cut" / "config.yaml").read_text())["replay"]
    assert kept["cuts"] == {"distill": 7}


def test_a_lesson_is_ended_by_what_was_planned_for_it_and_not_by_the_rest_of_the_budget(
    tmp_path: Path,
) -> None:
    class Idle:
        config = DistillConfig()
        notes: ClassVar[list[str]] = []
        _tell = notes.append

    path = tmp_path / "lesson.json"
    stop = job.Distilling._stop(Idle(), job.Plan(100, seconds=10.0), path)  # type: ignore[arg-type]
    assert not stop(60, 14.9)
    assert not path.exists()
    assert stop(60, 15.1)
    assert json.loads(path.read_text())["cut"] == 60
    asked = job.Distilling._stop(Idle(), job.Plan(100), path)  # type: ignore[arg-type]
    assert not asked(60, 1e9)  # whoever asks for steps gets them


def assert_same(one: Path, other: Path) -> None:
    a, b = (load_file(path / "model" / "model.safetensors") for path in (one, other))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_without_a_test_split_agreement_on_images_set_aside_counts_and_features_can_be_followed(
    here: Path,
) -> None:
    shutil.copytree(here / "data", here / "untested", dirs_exist_ok=True)
    shutil.rmtree(here / "untested" / "test")
    made = fallow.distill(
        str(here / "untested"),
        out=here / "aside",
        teacher=[here / "run", here / "small"],
        **{**QUICK, "no_int8": True, "set": {**QUICK["set"], "distillation.features": True}},
    )
    assert made.figures["measured_on"] == "aside"
    assert made.figures["difference"] is None
    assert made.figures["images"] == 8  # a tenth of 80
    assert made.figures["learned_from"] == 80 - 8 + 12
    assert len(made.figures["teachers"]) == 2
    log = (here / "aside").glob("stages/*/work/train.jsonl")
    assert any("feature_loss" in path.read_text() for path in log)
    assert "nobody can tell without a test split" in " ".join(made.screen().split())


def test_what_cannot_be_distilled_is_told_before_anything_is_made(here: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a teacher is needed"):
        fallow.distill(str(here / "data"), out=here / "none", **QUICK)
    write_digits(tmp_path / "other", classes=(0, 1, 2, 3))
    with pytest.raises(DataError, match="does not know the class '2'"):
        fallow.distill(str(tmp_path / "other"), teacher=here / "run", out=here / "none", **QUICK)
    assert not (here / "none").exists()


def test_a_budget_that_holds_no_lesson_says_what_it_takes(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"steps take \d+ s: give a longer --budget"):
        distill(here, "short", budget="5s", set={"optimization.batch_size": 8})
