"""A budget is kept by smaller steps, then by fewer, and a run that is too short to learn from says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fallow
import fallow.study.pretraining.pace as pace
from fallow.engine import Loop
from tests.study.digits import write_digits
from tests.study.pretraining.test_run import figures, hasten, learn

__all__ = ["hasten"]
ASKED = {"optimization.steps": "auto", "optimization.batch_size": "auto"}


def seconds_an_image(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(pace, "time_steps", lambda loop, count: seconds * loop.settings.unlabeled_batch)


@pytest.mark.parametrize(("seconds", "batch", "steps"), [(0.05, (33, 39), 20), (0.3, (16, 16), (3, 9))])
def test_a_budget_that_holds_few_steps_gets_smaller_ones_then_fewer(
    seconds: float, batch: tuple[int, int], steps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_an_image(monkeypatch, seconds)
    data = write_digits(tmp_path / "data", labels=0, pool=40, test=0) / "unlabeled"
    record = learn(data, tmp_path / "run", set=ASKED, budget="50s").record
    assert batch[0] <= record.batch <= batch[1]
    least, most = steps if isinstance(steps, tuple) else (steps, steps)
    assert least <= record.planned <= most
    told = [note for note in record.notes if "teach next to nothing" in note]
    assert len(told) == (record.planned < 20)
    decisions = {d["name"]: d for d in json.loads((tmp_path / "run" / "decisions.json").read_text())}
    assert decisions["optimization.batch_size"]["value"] == record.batch


def test_a_machine_that_slows_down_ends_the_training_at_any_step_and_a_replay_ends_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_an_image(monkeypatch, 0.1)
    run = Loop.run
    monkeypatch.setattr(
        Loop, "run", lambda self, stop: run(self, lambda step, spent: stop(step, 15.0 * step))
    )
    data = write_digits(tmp_path / "data", labels=0, pool=40, test=0) / "unlabeled"
    record = learn(data, tmp_path / "one", set=ASKED, budget="50s").record
    assert 1 <= record.steps <= 3 < record.planned
    assert any("slower than measured" in note for note in record.notes)
    fallow.pretrain(
        str(data), config=tmp_path / "one" / "config.yaml", out=tmp_path / "two", show="nothing", budget="50s"
    )
    assert figures(tmp_path / "one") == figures(tmp_path / "two")


def test_steps_and_batches_that_were_asked_for_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds_an_image(monkeypatch, 1.0)
    data = write_digits(tmp_path / "data", labels=0, pool=40, test=0) / "unlabeled"
    record = learn(data, tmp_path / "run", set={**ASKED, "optimization.batch_size": 24}, budget="50s").record
    assert (record.batch, record.planned) == (24, 1)
