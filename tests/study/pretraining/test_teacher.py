"""Whole runs that learn from what a frozen network says of the images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fallow.engine import Loop
from fallow.errors import ConfigError, RunError
from fallow.study.pretraining import teacher
from tests.study.digits import write_digits
from tests.study.pretraining.test_run import assert_equal, hasten, learn, weights

__all__ = ["hasten"]


def _decided(run: Path) -> dict[str, object]:
    return {d["name"]: d["value"] for d in json.loads((run / "pretrain.json").read_text())["decisions"]}


def test_a_run_teaches_another_and_the_config_says_who_did(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=4, pool=10, test=0)
    first, second = tmp_path / "first", tmp_path / "second"
    learn(data, first)
    learn(data, second, method="distill", teacher=str(first))
    assert _decided(second)["teacher"] == str(first)
    config = yaml.safe_load((second / "config.yaml").read_text())
    assert config["teacher"] == str(first)
    replayed = learn(data, tmp_path / "third", config=str(second / "config.yaml"), method="distill")
    assert_equal(weights(replayed.path), weights(second))


def test_without_a_teacher_the_pretrained_network_at_hand_teaches_one_from_scratch(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=0, pool=6, test=0)
    learn(data, tmp_path / "run", method="clusterfit", set={"options.clusters": 4})
    assert str(_decided(tmp_path / "run")["teacher"]).startswith("tf_efficientnet")


def test_a_pretrained_network_teaches_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_digits(tmp_path / "data", labels=0, pool=6, test=0)
    learn(data, tmp_path / "first")
    monkeypatch.setattr(teacher, "load_backbone", None)  # nothing else is loaded
    own = {"network.backbone": str(tmp_path / "first"), "network.init": "pretrained"}
    learn(data, tmp_path / "run", method="distill", set=own)
    assert _decided(tmp_path / "run")["teacher"] == str(tmp_path / "first")


def test_a_teacher_that_a_method_does_not_ask_for_is_refused(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=0, pool=6, test=0)
    with pytest.raises(
        ConfigError, match="simclr learns from no teacher; leave it out, or take one of clusterfit, distill"
    ):
        learn(data, tmp_path / "run", teacher="tf_efficientnet_lite0")
    with pytest.raises(ConfigError, match="'clusterz' is not an option of clusterfit"):
        learn(data, tmp_path / "other", method="clusterfit", set={"options.clusterz": 4})


def test_a_run_does_not_go_on_with_another_teacher_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_digits(tmp_path / "data", labels=0, pool=6, test=0)
    learn(data, tmp_path / "first")
    with monkeypatch.context() as patch:

        def stop(self: Loop, asked: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Loop, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            learn(data, tmp_path / "run", method="distill", teacher=str(tmp_path / "first"))
    learn(data, tmp_path / "again", seed=5)
    for file in (tmp_path / "first" / "model").iterdir():
        if (other := tmp_path / "again" / "model" / file.name).is_file():
            file.write_bytes(other.read_bytes())
    with pytest.raises(RunError, match="has other weights than when the run was started"):
        learn(data, tmp_path / "run", method="distill", teacher=str(tmp_path / "first"), resume=True)
