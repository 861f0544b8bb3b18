"""Where figures go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fallow.engine.loggers
from fallow.engine import TRACKERS, JsonLines, Place, Tracker, make_loggers
from fallow.errors import ConfigError
from tests.engine.digits import changed, make_loop

PACKAGES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_after_the_checkpoint_are_dropped_by_a_fit_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "train.jsonl"
    log = JsonLines(path)
    for step in range(6):
        log.log(step, {"loss": 1 / (step + 1)})
    log.close()
    log = JsonLines(path, 4)
    assert steps(path) == [0, 1, 2, 3]
    log.log(4, {"loss": 0.5})
    log.close()
    assert steps(path) == [0, 1, 2, 3, 4]
    assert json.loads(path.read_text().splitlines()[2]) == {"step": 2, "loss": 0.333333}
    JsonLines(path).close()
    assert path.read_text() == ""


@pytest.mark.parametrize("cut", ['{"step": 2, "lo', "17", '{"loss": 1}', "[]"])
def test_a_line_that_a_kill_cut_in_two_ends_what_is_kept(cut: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"step": 0, "loss": 1}\n{"step": 1, "loss": 1}\n' + cut)
    JsonLines(path, 5).close()
    assert steps(path) == [0, 1]


def test_a_fit_logs_its_figures_and_its_learning_rate(tmp_path: Path) -> None:
    make_loop("softmatch", changed(), place=Place(tmp_path)).run()
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(8))
    for name in ("loss", "supervised_loss", "unsupervised_loss", "utilization", "lr"):
        assert all(name in line for line in lines)
    assert lines[0]["lr"] > lines[-1]["lr"] > 0


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_whose_package_is_missing_says_so_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(ConfigError, match=f"^logging to {name} needs its package: pip install {name}$"):
        Tracker(name, tmp_path, "run")


def test_an_unknown_tracker_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'wandbb' is no tracker.*tensorboard, wandb, mlflow.*wandb"):
        Tracker("wandbb", tmp_path, "run")


class Recorder:
    """A package, and what it makes: keeps every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.info = SimpleNamespace(run_id="id")

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Recorder:
            self.calls.append((name, given, named))
            return self

        return call


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_is_told_every_look_and_closed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Recorder()
    monkeypatch.setitem(sys.modules, PACKAGES[name], package)  # type: ignore[arg-type]
    monkeypatch.setattr(fallow.engine.loggers, "import_module", lambda asked: sys.modules[asked])
    make_loop("finetune", changed(steps=3), place=Place(tmp_path, "joint-0-1", (name,))).run()
    names = [call for call, _, _ in package.calls]
    started, told, closed = {
        "tensorboard": ("SummaryWriter", "add_scalar", "close"),
        "wandb": ("init", "log", "finish"),
        "mlflow": ("start_run", "log_metrics", "end_run"),
    }[name]
    assert names.index(started) < names.index(told)
    assert names[-1] == closed
    losses = [str(call) for call in package.calls if call[0] == told and "supervised_loss" in str(call)]
    assert len(losses) == 3
    assert any("joint-0-1" in str(call) for call in package.calls)
    assert steps(tmp_path / "train.jsonl") == [0, 1, 2]


def test_json_lines_are_always_written(tmp_path: Path) -> None:
    (only,) = make_loggers(tmp_path / "train.jsonl", (), "run")
    assert isinstance(only, JsonLines)
    only.close()
