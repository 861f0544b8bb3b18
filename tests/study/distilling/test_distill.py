"""A student of a real run, in seconds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import load_file

import fallow
from fallow.config import DistillConfig
from fallow.errors import ConfigError, DataError, FallowError
from fallow.models import Preprocess
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


class Linear(torch.nn.Module):
    """Somebody's own network: a linear one, which looks at 8 x 8 pixels."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        self.layer.weight.data = torch.from_numpy(weight)
        self.layer.bias.data = torch.from_numpy(bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))


@pytest.fixture(scope="module")
def own(here: Path) -> tuple[Linear, Path]:
    """A network of least squares on the labeled images, and the same one as a plain ONNX file."""
    prepared, targets = Preprocess(8), []
    images = []
    names = sorted(d.name for d in (here / "data" / "train").iterdir())
    for position, name in enumerate(names):
        for file in sorted((here / "data" / "train" / name).iterdir()):
            images.append(prepared(np.asarray(Image.open(file).convert("RGB"))).reshape(-1))
            targets.append(np.eye(len(names))[position])
    x = np.stack(images)
    solved = np.linalg.lstsq(x, 4 * np.stack(targets), rcond=1e-2)[0].T.astype(np.float32)
    bias = np.zeros(len(names), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
        ],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(names)])],
        [numpy_helper.from_array(solved, "w"), numpy_helper.from_array(bias, "b")],
    )
    path = here / "theirs" / "net.onnx"
    path.parent.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return Linear(solved, bias), path


def test_any_network_teaches_from_its_file_as_from_memory(here: Path, own: tuple[Linear, Path]) -> None:
    network, path = own
    of_file = distill(here, "of-file", teacher=path)
    of_memory = distill(here, "of-memory", teacher=network, input={"size": 8})
    taught = [load_file(made.path / "taught.safetensors")["probs"] for made in (of_file, of_memory)]
    np.testing.assert_allclose(taught[0], taught[1], atol=1e-5)
    assert taught[0].argmax(1)[-12:].tolist() == sorted(
        taught[0].argmax(1)[-12:].tolist()
    )  # the labeled ones
    models = of_file.figures["models"]
    assert models["teacher"]["bytes"] == path.stat().st_size
    assert models["teacher"]["accuracy"]["value"] > 0.5
    assert models["teacher"]["latency_ms"] > 0
    assert of_memory.figures["models"]["teacher"]["bytes"] is None
    assert "Linear" in of_memory.figures["teachers"]
    of_memory.screen()
    made = {d["name"]: d["value"] for d in json.loads((of_file.path / "decisions.json").read_text())}
    assert made["teacher.outputs.0"] == "logits"


def test_a_run_and_a_network_are_averaged_in_their_logs(here: Path, own: tuple[Linear, Path]) -> None:
    both = distill(here, "both", teacher=[here / "run", own[1]], no_int8=True)
    alone = load_file(distill(here, "alone", teacher=own[1], no_int8=True).path / "taught.safetensors")[
        "probs"
    ]
    run = load_file(here / "small" / "taught.safetensors")["probs"]
    mean = np.sqrt((alone + 1e-8) * (run + 1e-8))
    said = load_file(both.path / "taught.safetensors")["probs"]
    np.testing.assert_allclose(said, mean / mean.sum(1, keepdims=True), atol=1e-4)


def test_a_run_whose_teacher_lived_in_memory_goes_on_when_it_is_given_again(
    here: Path, own: tuple[Linear, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"teacher": own[0], "input": {"size": 8}}
    whole = distill(here, "memory-whole", **options)
    monkeypatch.setattr(job, "save_bundle", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        distill(here, "memory-stopped", **options)
    monkeypatch.undo()
    monkeypatch.setenv("FALLOW_CACHE", str(here / "cache"))
    with pytest.raises(ConfigError, match="started with Linear of your program as teacher="):
        distill(here, "memory-stopped", resume=True, teacher=None)
    distill(here, "memory-stopped", resume=True, **options)
    assert_same(whole.path, here / "memory-stopped")


def test_a_teacher_that_cannot_be_asked_is_told_in_a_sentence(here: Path, own: tuple[Linear, Path]) -> None:
    weights = here / "theirs" / "net.pt"
    weights.write_bytes(b"weights")
    for wrong, sentence in (
        (weights, "is no ONNX file: give a run directory, or an .onnx file"),
        ("nowhere.onnx", "is not there"),
        (here / "theirs", "holds no model of fallow"),
    ):
        with pytest.raises(FallowError, match=sentence):
            distill(here, "none", teacher=wrong)
    with pytest.raises(ConfigError, match=r"distillation\.features: the teacher .* gives answers only"):
        distill(here, "none", teacher=own[1], set={**QUICK["set"], "distillation.features": True})
    names = here / "theirs" / "names.txt"
    names.write_text("0\n1\n2\nseven\n")
    with pytest.raises(DataError, match="does not know the class '"):
        distill(here, "none", teacher=own[1], classes=names)
    assert not (here / "none").exists()


def test_a_budget_that_holds_no_lesson_says_what_it_takes(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ConfigError, match=r"budget of 5s leaves nothing to learn in: .* give a longer --budget"
    ):
        distill(here, "none", budget="5s", set={"optimization.batch_size": 8})
    monkeypatch.setattr(job, "check_time", lambda *given: None)  # a machine that was quicker until then
    with pytest.raises(ConfigError, match=r"steps take \d+ s: give a longer --budget"):
        distill(here, "short", budget="5s", set={"optimization.batch_size": 8})
