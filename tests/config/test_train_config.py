"""What is asked for, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

import fallow.config.train
from fallow.config import LOGGERS, METHODS, SUPPORTED_RUNGS, TrainConfig, build, dump_config
from fallow.config.names import LONG_TAIL
from fallow.errors import ConfigError

LADDER = ("probe", "blend", "propagate", "finetune", "joint", "pretrain", "noisy_student", "ensemble")


def test_auto_means_the_rungs_that_there_are_in_the_order_of_the_ladder() -> None:
    assert TrainConfig().rung_names == SUPPORTED_RUNGS
    assert [name for name in LADDER if name in SUPPORTED_RUNGS] == list(SUPPORTED_RUNGS)


def test_the_probe_is_always_there_and_the_order_is_the_ladders() -> None:
    assert TrainConfig(rungs="propagate").rung_names == ("probe", "propagate")
    assert TrainConfig(rungs=" propagate, probe").rung_names == ("probe", "propagate")


@pytest.mark.parametrize("rungs", ["auto", "probe", "probe,propagate"])
def test_asking_for_a_method_asks_for_the_joint_rung(rungs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallow.config.train, "SUPPORTED_RUNGS", LADDER)
    without = TrainConfig(rungs=rungs).rung_names
    assert set(TrainConfig(rungs=rungs, method="uda").rung_names) == {*without, "joint"}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_had_for_long_tails(method: str) -> None:
    assert build(TrainConfig, {"method": method + LONG_TAIL}).method == method + LONG_TAIL


def test_the_methods_that_can_be_asked_for_are_those_that_there_are() -> None:
    from fallow.methods import registry

    joint = {info.name for info in registry() if info.family == "joint"}
    assert joint == {*METHODS, LONG_TAIL}


def test_the_rungs_that_can_be_asked_for_are_those_that_there_are() -> None:
    from fallow.study import RUNGS

    assert set(SUPPORTED_RUNGS) <= set(RUNGS)


def test_json_lines_are_always_written() -> None:
    assert TrainConfig().log.loggers == ("jsonl",)
    assert build(TrainConfig, {"log": {"to": "mlflow, tensorboard"}}).log.loggers == (
        "jsonl",
        "tensorboard",
        "mlflow",
    )
    assert build(TrainConfig, {"log": {"to": ",".join(LOGGERS)}}).log.loggers == LOGGERS


def test_weights_to_start_from_and_a_start_from_scratch_contradict_each_other(tmp_path: Path) -> None:
    (tmp_path / "net.pt").touch()
    given = {"network": {"weights": str(tmp_path / "net.pt")}}
    assert build(TrainConfig, given).network.weights == tmp_path / "net.pt"
    given["network"]["init"] = "scratch"
    with pytest.raises(ConfigError, match=r"network\.init.*network\.weights"):
        build(TrainConfig, given)


def test_what_a_config_writes_it_reads() -> None:
    import yaml

    given = TrainConfig(method="flexmatch+abc", rungs="probe")
    given.optimization.lr, given.optimization.clip, given.joint.foreign = 3e-4, 1, "drop"
    given.replay.steps = {"joint": 400}
    again = build(TrainConfig, yaml.safe_load(dump_config(given.model_dump(mode="json"))))
    assert again == given
