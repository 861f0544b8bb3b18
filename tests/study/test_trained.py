"""Whole studies that train networks: finished, killed, and done again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import yaml

import fallow.engine.loop
import fallow.study.leave
from fallow.engine import Loop
from fallow.report import write_report
from fallow.study import reporting
from fallow.study.ladder import Study
from fallow.study.reporting import gather_report
from tests.study.digits import TRAINED, assert_same, decisions, figures, hasten, model, posteriors
from tests.study.test_resume import Killed, Saboteur
from tests.study.trained import prefer, replay, study, write

NAMES = ["probe", "propagate", *TRAINED.split(",")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("digits") / "data")


@pytest.fixture(autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, tmp_path_factory.getbasetemp() / "trained-cache")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that nothing happened to, and that chose the noisy student."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch, tmp_path_factory.getbasetemp() / "trained-cache")
        prefer("noisy_student", patch)
        # A real report of a part of the pool, as where a trained network has no time to answer for all of it.
        patch.setattr(fallow.study.leave, "gather_report", gather_report)
        patch.setattr(fallow.study.leave, "write_report", write_report)
        patch.setattr(reporting, "SHOWN_LEAST", 10)
        patch.setattr(reporting, "_POOL_SHARE", 0.0)
        study(data, out)
    return out


def test_all_rungs_are_measured_and_told_and_the_trained_winner_is_what_is_left(whole: Path) -> None:
    result = figures(whole)
    assert [row["rung"] for row in result["rungs"]] == NAMES
    assert [bar["rung"] for bar in result["waterfall"]["bars"]] == NAMES
    assert all(row["held_out"]["n"] == 12 for row in result["rungs"])
    assert "12 labeled and 10 unlabeled images" in (whole / "report.html").read_text()
    assert result["chosen"]["rung"] == "noisy_student"
    assert result["labels_only"]["rung"] in ("probe", "finetune")
    assert {row["rung"] for row in posteriors(whole)} == set(NAMES)
    made = decisions(whole)
    assert yaml.safe_load((whole / "config.yaml").read_text())["method"] == "softmatch"
    for name in TRAINED.split(",")[:3]:
        assert made[f"{name}.training"]["value"]["steps"] == 5
        assert made[f"{name}.training"]["value"]["done"] == 5
    assert made["network.backbone"]["value"] == "small_resnet_8"
    assert made["method"]["value"] == "softmatch"
    assert any("stem.weight" in name for name in model(whole))


def test_the_exported_file_says_what_the_network_in_memory_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, Any] = {}
    climb = Study._climb_rung

    def climbed(self: Study, ctx: Any, *given: Any) -> Any:
        kept["study"], kept["ctx"] = self, ctx
        return climb(self, ctx, *given)

    monkeypatch.setattr(Study, "_climb_rung", climbed)
    prefer("joint", monkeypatch)
    result = study(data, tmp_path / "run", rungs="finetune,joint")
    assert result.study.chosen.rung == "joint"
    images = kept["ctx"].data.images(kept["ctx"].data.test_ids)
    said = kept["study"].finals["joint"].predict(images).probs.numpy()
    session = ort.InferenceSession(
        tmp_path / "run" / "model" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    shipped = np.stack([session.run(["probs"], {"image": images.read(name)})[0] for name in images.ids])
    np.testing.assert_allclose(shipped, said, atol=1e-3)
    assert (tmp_path / "run" / "report.html").is_file()


def test_killed_at_any_write_a_study_that_trains_ends_as_if_nothing_had_happened(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer("noisy_student", monkeypatch)
    monkeypatch.setattr(fallow.engine.loop, "_CHECKPOINT_SECONDS", -1.0)
    saboteur = Saboteur(monkeypatch, tmp_path / "killed")
    study(data, tmp_path / "killed" / "never")
    assert_same(whole, tmp_path / "killed" / "never")
    moments = saboteur.moments
    assert moments > 100  # checkpoints among them
    out, strikes = tmp_path / "killed" / "often", 0
    for moment in sorted(random.Random(5).sample(range(8, 90), 6)):
        saboteur.moments, saboteur.strike_at = 0, moment
        try:
            study(data, out)
        except Killed:
            strikes += 1
        saboteur.strike_at = -1
    assert strikes >= 4
    if not (out / "result.json").is_file():
        study(data, out)
    again = figures(out)
    expected = figures(whole)
    again.pop("test_reads"), expected.pop("test_reads")  # a read that was struck counts
    assert again == expected
    assert decisions(out) == decisions(whole)
    for name, array in model(whole).items():
        np.testing.assert_array_equal(array, model(out)[name], err_msg=name)
    assert not list(out.rglob("*.part"))
    assert not list(out.rglob("checkpoint.safetensors"))


@pytest.mark.parametrize("rung", ["finetune", "joint", "noisy_student"])
def test_killed_in_the_middle_of_a_fit_its_steps_are_not_taken_again(
    rung: str, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer("noisy_student", monkeypatch)
    monkeypatch.setattr(fallow.engine.loop, "_CHECKPOINT_SECONDS", -1.0)
    taken: list[tuple[str, int]] = []
    take = Loop._step

    def counted(self: Loop, step: int) -> Any:
        taken.append((self.title, step))
        if strike and self.title.startswith(rung) and step == 3:
            raise Killed
        return take(self, step)

    strike = True
    monkeypatch.setattr(Loop, "_step", counted)
    with pytest.raises(Killed):
        study(data, tmp_path / "run")
    strike = False
    taken.clear()
    study(data, tmp_path / "run")
    first = [step for title, step in taken if title.startswith(rung)]
    assert first[:2] == [3, 4]
    assert_same(whole, tmp_path / "run")


def test_done_again_from_its_config_a_study_that_trains_finds_the_same(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer("noisy_student", monkeypatch)
    monkeypatch.setattr(Study, "_effort", lambda *given: pytest.fail("what was planned is planned again"))
    replay(data, whole, tmp_path / "again")
    assert figures(tmp_path / "again") == figures(whole)
    assert posteriors(tmp_path / "again") == posteriors(whole)
    for name, array in model(whole).items():
        np.testing.assert_array_equal(array, model(tmp_path / "again")[name], err_msg=name)
