"""How much is judged: what the budget holds, and the same whenever the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fallow.study.pretraining import run as story
from fallow.study.pretraining.extent import Extent, drawn_evenly, extent_for
from fallow.study.pretraining.judge import AFTER, Judge
from fallow.study.pretraining.pace import Pace
from tests.study.digits import write_digits
from tests.study.pretraining.test_run import figures, hasten, learn

__all__ = ["hasten"]  # a fixture of all tests here

Y = np.repeat(np.arange(10), [100, 100, 40, 40, 20, 20, 10, 10, 5, 2])


@pytest.mark.parametrize(
    ("seconds", "sample", "judged"),
    [(100.0, 1000, None), (15.0, 576, None), (5.0, 100, 300), (0.1, 100, 47), (0.0, 100, 47)],
)
def test_the_sample_gives_way_first_and_five_labels_a_class_stay(
    seconds: float, sample: int, judged: int | None
) -> None:
    assert extent_for(Y, 5000, 100.0, seconds) == Extent(sample, judged)


def test_few_images_are_all_looked_at() -> None:
    assert extent_for(Y[:4], 30, 1.0, 0.0) == Extent(30, None)
    assert extent_for(Y[:0], 30, 1.0, 0.0) == Extent(30, None)


def test_each_class_keeps_its_share_of_those_that_judge_and_five_at_least() -> None:
    rows = drawn_evenly(Y, 180, 0)
    counts = np.bincount(Y[rows], minlength=10)
    assert len(rows) == len(set(rows.tolist())) == 180
    assert counts[8:].tolist() == [5, 2]
    assert abs(counts[0] - 2.5 * counts[2]) <= 6
    assert drawn_evenly(Y, None, 0).tolist() == list(range(len(Y)))


def test_judging_keeps_to_the_budget_and_a_run_done_again_judges_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of 40 images a second: 24 judging images and 80 of the pool, twice, would take 4.6 seconds."""
    left: list[float] = []
    real = Pace.settle

    def settle(self: Pace, plan: Any) -> Any:
        left.append(self.left())
        return real(self, plan)

    monkeypatch.setattr(Pace, "settle", settle)
    monkeypatch.setattr("fallow.models.embed.Embedder.rate", lambda *given, **named: 100.0)
    monkeypatch.setattr("fallow.study.pretraining.extent._A_CLASS", 2)
    monkeypatch.setattr("fallow.study.pretraining.extent._LEAST_SAMPLE", 10)
    monkeypatch.setattr(story, "_JUDGING", 0.3 / 60)
    data = write_digits(tmp_path / "data", labels=6, pool=20, test=0)
    result = learn(data, tmp_path / "one", budget="1m")
    plan = json.loads((tmp_path / "one" / "plan.json").read_text())["plan"]["extent"]
    assert plan["sample"] == 10
    assert 8 <= plan["judged"] < 24
    assert result.record.judged == plan["judged"]
    assert result.record.difference is not None
    assert result.record.difference.n == plan["judged"]
    assert any(f"{plan['judged']} of the 24" in note for note in result.record.notes)
    assert 30 < left[0] < 52  # without writing the model, and without judging what was learned
    learn(data, tmp_path / "two", config=tmp_path / "one" / "config.yaml", budget="1h", set={})
    one, two = (figures(tmp_path / name) for name in ("one", "two"))
    assert (one["before"], one["after"]) == (two["before"], two["after"])


def test_probes_end_with_their_time_when_every_image_was_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = Judge.judge, []

    def judge(self: Judge, name: str, backbone: Any, seconds: float = 0.0) -> Any:
        found = real(self, name, backbone, 0.0 if name != AFTER else seconds)
        seen.append((len(self.folds), self.evidence.folds(name)))
        return found

    monkeypatch.setattr(Judge, "judge", judge)
    result = learn(write_digits(tmp_path / "data", labels=6, pool=20, test=0), tmp_path / "run")
    assert seen == [(5, 5), (5, 5)]  # of 20
    assert result.record.difference is not None
    assert result.record.difference.n == 24
