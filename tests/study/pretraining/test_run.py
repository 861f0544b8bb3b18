"""Whole runs of learning from images alone, in a second or two each."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fallow
import fallow.engine.loop
import fallow.models.embed
from fallow.engine import Loop
from fallow.errors import ConfigError, DataError, RunError
from fallow.models import load_backbone
from fallow.models.engines import make_engine
from fallow.record import Interval
from fallow.study.pretraining.data import PretrainData
from fallow.study.pretraining.judge import Judge
from tests.study.digits import without_times, write_digits


@pytest.fixture(autouse=True)
def hasten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out what takes seconds and is tested elsewhere: graphs of networks."""
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        fallow.models.embed, "make_engine", lambda *given, eager=False: make_engine(*given, eager=True)
    )
    # By its name in full: the verb `fallow.export` stands in front of the room.
    monkeypatch.setattr(import_module("fallow.export.backbone"), "_write_graph", lambda *given: None)


def learn(data: object, out: Path, **options: Any) -> fallow.Pretrained:
    """Take eight steps with a small network, quietly."""
    pinned = {
        "optimization.steps": 8,
        "optimization.batch_size": 8,
        "network.backbone": "small_resnet_8",
        "network.size": 8,
        **options.pop("set", {}),
    }
    asked = {"method": "simclr", "offline": True, "show": "nothing", **options}
    return fallow.pretrain(data if isinstance(data, tuple) else str(data), out=out, set=pinned, **asked)


def weights(run: Path, folder: str = "model") -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run / folder / "model.safetensors")
    return found


def figures(run: Path) -> dict[str, Any]:
    found = without_times(json.loads((run / "pretrain.json").read_text()))
    found.pop("decisions")
    return {k: v for k, v in found.items() if "second" not in k}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_run_judges_before_and_after_and_leaves_what_it_says(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=6, pool=20, test=4)
    result = learn(data, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "pretrain.json").read_text())
    difference, finding = record["difference"], record["finding"]
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert difference["n"] == record["judged"] == 24
    assert (record["images"], record["test"], record["steps"]) == (80, 16, 8)
    claimed = {"better": difference["low"] > 0, "worse": difference["high"] < 0}
    assert finding == next((name for name, so in claimed.items() if so), "no difference")
    assert record["verdict"].lower().startswith(finding)
    assert record["after"]["probe"]["value"] - record["before"]["probe"]["value"] == pytest.approx(
        difference["value"]
    )
    assert {"method", "network.backbone", "optimization.steps", "judge.images"} <= {
        d["name"] for d in record["decisions"]
    }
    assert result.verdict in (tmp_path / "run" / "model" / "README.md").read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Before and after" in page
    assert f"{100 * difference['value']:+.1f}" in page
    assert result.screen().count("linear probe") >= 2
    assert load_backbone(str(tmp_path / "run")).architecture == "small_resnet_8"


def test_without_labels_nothing_is_claimed(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=0, pool=8, test=0) / "unlabeled"
    result = learn(data, tmp_path / "run")
    assert result.difference is None
    assert result.verdict == "Not decidable without labels; 5 a class would decide it."
    assert result.record.before.probe is None
    assert result.record.after.rank >= 1
    assert 0 <= result.record.moved <= 1
    assert "linear probe" not in result.screen().replace(result.verdict, "")


@pytest.mark.parametrize(
    ("low", "high", "leaves"), [(-0.3, -0.1, "start"), (-0.1, 0.1, "trained"), (0.1, 0.3, "trained")]
)
def test_model_holds_the_better_of_start_and_end_and_neither_is_lost(
    low: float, high: float, leaves: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "difference", lambda self: Interval((low + high) / 2, low, high, 12))
    data = write_digits(tmp_path / "data", labels=3, pool=10, test=0)
    result = learn(data, tmp_path / "run")
    assert result.record.leaves == leaves
    other = tmp_path / "run" / "trained"
    assert other.exists() == (leaves == "start")
    if leaves == "start":
        start = load_backbone(str(result.model)).module.state_dict()
        assert_equal(weights(tmp_path / "run"), start)
        moved = weights(tmp_path / "run", "trained")
        assert not torch.equal(moved["stem.weight"], start["stem.weight"])
        assert "trained/" in result.verdict


class _Stopped(BaseException):
    pass


@pytest.mark.parametrize("method", ["simclr", "moco", "swav", "supcon"])
def test_stopped_and_resumed_is_as_uninterrupted(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallow.engine.loop, "_CHECKPOINT_SECONDS", 0.0)
    data = write_digits(tmp_path / "data", labels=3, pool=10, test=0)
    learn(data, tmp_path / "whole", method=method)
    real, taken = Loop._step, []

    def step(self: Loop, number: int) -> Any:
        if self.place is not None:
            taken.append(number)
            if len(taken) == 6:
                raise KeyboardInterrupt
        return real(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", step)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            learn(data, tmp_path / "parts", method=method)
    taken.clear()
    monkeypatch.setattr(Loop, "_step", lambda self, number: (taken.append(number), real(self, number))[1])
    learn(data, tmp_path / "parts", method=method, resume=True)
    assert taken == [5, 6, 7]
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert figures(tmp_path / "whole") == figures(tmp_path / "parts")


def test_a_run_that_is_done_again_from_its_config_finds_the_same(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=3, pool=10, test=0)
    learn(data, tmp_path / "one", method="auto", set={"network.backbone": "auto", "network.size": "auto"})
    config = tmp_path / "one" / "config.yaml"
    pinned = config.read_text().split("log:")[0].replace("teacher: auto", "")  # the method has none
    assert "auto" not in pinned
    fallow.pretrain(str(data), config=config, out=tmp_path / "two", show="nothing")
    assert_equal(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert figures(tmp_path / "one") == figures(tmp_path / "two")


@pytest.mark.parametrize(("asked", "decay"), [("auto", 0.9), (0.3, 0.3)])
def test_what_follows_from_the_number_of_steps_is_decided_told_and_kept(
    asked: object, decay: float, tmp_path: Path
) -> None:
    data = write_digits(tmp_path / "data", labels=0, pool=8, test=0) / "unlabeled"
    pinned = {"optimization.steps": 2, "optimization.ema_decay": asked}
    learn(data, tmp_path / "run", method="byol", set=pinned)
    decisions = {d["name"]: d for d in json.loads((tmp_path / "run" / "decisions.json").read_text())}
    told = decisions["optimization.ema_decay"]
    assert (told["value"], told["pinned"]) == (decay, asked != "auto")
    assert decisions["options.head"]["value"] == "simsiam"  # of a short run
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert f"ema_decay: {decay}" in config
    assert "head: simsiam" in config


def test_labels_and_test_images_change_nothing_that_is_learned(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=3, pool=10, test=2)
    learn(data, tmp_path / "one")
    names = sorted(p.name for p in (data / "train").iterdir())
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        (data / "train" / name).rename(data / "train" / f"{other}-was")
    for folder in (data / "train").iterdir():
        folder.rename(folder.with_name(folder.name.removesuffix("-was")))
    for file in (data / "test").rglob("*.png"):
        file.unlink()
    learn(data, tmp_path / "two")
    assert_equal(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_labels_that_judge_change_nothing_that_is_learned_of_labels_and_those_that_teach_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_digits(tmp_path / "data", labels=6, pool=10, test=2)
    asked = {"method": "supcon", "set": {"optimization.steps": 4}}
    one = learn(data, tmp_path / "one", **asked)
    assert (one.record.labels, one.record.images, one.record.judged) == (12, 52, 12)
    assert "labels" in (tmp_path / "one" / "config.yaml").read_text()
    assert "12 with their labels" in (tmp_path / "one" / "report.html").read_text()
    build = PretrainData.build

    def shifted(*given: Any, who: str) -> PretrainData:
        made = build(*given)
        if who == "judge":
            return replace(made, y=np.roll(made.y, 1))
        return replace(made, taught=np.where(made.taught >= 0, (made.taught + made.taught % 2) % 4, -1))

    for who in ("judge", "teach"):
        monkeypatch.setattr(PretrainData, "build", partial(shifted, who=who))
        learn(data, tmp_path / who, **asked)
    assert_equal(
        weights(tmp_path / "one", _learned(tmp_path / "one")),
        weights(tmp_path / "judge", _learned(tmp_path / "judge")),
    )
    assert not torch.equal(
        weights(tmp_path / "one", _learned(tmp_path / "one"))["stem.weight"],
        weights(tmp_path / "teach", _learned(tmp_path / "teach"))["stem.weight"],
    )


def _learned(run: Path) -> str:
    """Return where the trained network is: evidence that it is worse puts it beside the model."""
    return "trained" if (run / "trained").is_dir() else "model"


@pytest.mark.parametrize("method", ["supcon", "pn"])
def test_labeled_images_alone_teach_too(method: str, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=12, pool=0, test=0)
    record = learn(data, tmp_path / "run", method=method).record
    assert (record.labels, record.images, record.judged) == (24, 24, 24)


class Own(nn.Module):
    """A network of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean((2, 3))


class Still(Own):
    """A network that cannot learn."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).detach()


def test_a_network_of_ones_own_learns_and_comes_back_under_its_own_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, images = Own(), np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    result = fallow.pretrain(
        (images, None),
        model=network,
        out=tmp_path / "run",
        method="simclr",
        show="nothing",
        set={"optimization.steps": 3, "optimization.batch_size": 8, "network.size": 8},
    )
    left = weights(tmp_path / "run")
    before = network.state_dict()
    assert left.keys() == before.keys()
    assert not torch.equal(left["body.0.weight"], before["body.0.weight"])
    network.load_state_dict(left)
    with pytest.raises(ConfigError, match="model="):
        result.backbone()


def test_training_that_breaks_down_is_told_in_a_sentence(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=0, pool=8, test=0)
    with pytest.raises(RunError, match=r"broke down.*learning rate"):
        learn(data, tmp_path / "run", set={"optimization.lr": 1e30, "optimization.steps": 40})


def test_what_cannot_be_is_told_in_a_sentence_and_leaves_no_run(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=3, pool=10, test=0)
    with pytest.raises(ConfigError, match="temperatur"):
        learn(data, tmp_path / "run", set={"options.temperatur": 0.1})
    with pytest.raises(ConfigError, match="vision transformer"):
        learn(data, tmp_path / "run", method="mae")
    with pytest.raises(
        ConfigError, match="labels of two classes or more, and those it may learn from have 0"
    ):
        learn(data / "unlabeled", tmp_path / "run", method="supcon")
    with pytest.raises(ConfigError, match="no pretrained weights"):
        learn(data, tmp_path / "run", set={"network.init": "pretrained"})
    with pytest.raises(ConfigError, match="no gradient"):
        learn(data, tmp_path / "run", model=Still(), set={"network.backbone": "auto"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        learn(tmp_path / "empty", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunError, match="no run"):
        learn(data, tmp_path / "run", resume=True)
