"""What a run leaves tells what it ended with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fallow
import fallow.study.leave
import fallow.study.scoring
from fallow.record import Interval, Scored, elapsed_before
from fallow.study.data import StudyData
from fallow.study.scoring import accuracies
from tests.study.digits import FEW, figures, hasten, train, write_digits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"), **FEW)  # type: ignore[arg-type]


def test_the_card_holds_the_figures_of_the_result(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    early: list[str] = []
    real = fallow.study.leave.score

    def listen(*given: object) -> object:
        early.append((tmp_path / "run" / "model" / "README.md").read_text())
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(fallow.study.leave, "score", listen)
    train(data, tmp_path / "run")
    found = figures(tmp_path / "run")["chosen"]
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "has not ended" in early[0]
    assert "has not ended" not in card
    held = found["held_out"]
    assert f"{100 * held['value']:.1f} % on {held['n']} held-out labels" in card
    assert f"{100 * found['test']:.1f} % on 24 test images" in card
    assert "are calibrated" in card


def test_with_one_label_a_class_the_card_claims_no_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write_digits(tmp_path / "data", classes=(0, 1), labels=1, pool=20, test=0)
    train(data, tmp_path / "run")
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "not measured" in card
    assert "are not calibrated" in card
    assert "are calibrated" not in card


def test_test_labels_are_asked_for_once_and_each_time_is_written_down(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path / "cache"))
    real, asked = StudyData.test_classes, []

    def listen(self: StudyData) -> np.ndarray:
        asked.append(len((tmp_path / "run" / "test_reads.jsonl").read_text().splitlines()))
        return real(self)

    monkeypatch.setattr(StudyData, "test_classes", listen)
    with monkeypatch.context() as patch:
        patch.setattr(fallow.study.leave, "write_report", _stop)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "run")
    train(data, tmp_path / "run", resume=True)
    assert asked == [2]  # both rungs were written down before, and a run that goes on does not ask again
    assert "test images" in (tmp_path / "run" / "report.html").read_text()


def test_a_rung_that_need_not_be_asked_about_the_test_images_is_not_when_the_time_is_up(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    real = fallow.study.leave.score

    def late(study: Any, ctx: object, chosen: str, through: str, opponent: str) -> object:
        study.pace.owed["propagate"] = 1e9
        return real(study, ctx, "probe", through, "probe")  # type: ignore[arg-type]

    monkeypatch.setattr(fallow.study.leave, "score", late)
    train(data, tmp_path / "run")
    result = figures(tmp_path / "run")
    assert [row["test"] is None for row in result["rungs"]] == [False, True]
    assert "propagate: not asked about the test images, for the time was up." in result["notes"]
    reads = (tmp_path / "run" / "test_reads.jsonl").read_text().splitlines()
    assert [json.loads(line)["rung"] for line in reads] == ["probe"]


def _stop(*given: object) -> None:
    raise KeyboardInterrupt


def test_accuracies_are_those_of_the_answers() -> None:
    truth, guess = np.array([0, 0, 0, 2, 2]), np.array([0, 0, 2, 2, 1])
    counted = np.zeros((3, 3), np.int64)
    np.add.at(counted, (truth, guess), 1)
    assert accuracies(counted) == pytest.approx((3 / 5, (2 / 3 + 1 / 2) / 2))


def test_the_balanced_figure_is_corrected_for_the_choice_too() -> None:
    # With two labels a class the two figures are one, and stay one.
    plain = Scored("propagate", Interval(0.65, 0.43, 0.82, 20), None, 0.65, None)
    corrected = fallow.study.leave._corrected(plain, Interval(0.636, 0.41, 0.8, 20))
    assert corrected.held_out == Interval(0.636, 0.41, 0.8, 20)
    assert corrected.balanced_held_out == pytest.approx(0.636)


def test_time_used_before_the_first_fit_is_used(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    ages = []
    for number, moment in enumerate(("embed_everything", "plan_folds")):
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            patch.setattr(fallow.study.ladder, moment, _stop)
            with pytest.raises(KeyboardInterrupt):
                train(data, out)
        ages.append(elapsed_before(out))
    assert min(ages) > 0
    train(data, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "clock.jsonl").read_text().splitlines()]
    assert [line["done"] for line in lines] == ["plan", "embedding", "choice"]
    assert sorted(lines, key=lambda line: line["elapsed"]) == lines
    assert elapsed_before(tmp_path / "run") >= lines[-1]["elapsed"]
