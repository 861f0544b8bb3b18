"""Studies that train networks, of which something is cut, breaks down, is left out, or is not there."""

from __future__ import annotations

import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import fallow.study.ladder
import fallow.study.rungs.trained as trained
from fallow.data import cores
from fallow.engine import Loop, LoopSettings
from fallow.errors import ConfigError, WeightsError
from fallow.models import Network, create_backbone, from_backbone
from fallow.study.effort import share_of
from fallow.study.pace import Pace
from fallow.study.rung import Cost
from fallow.study.rungs import RUNGS
from fallow.study.stage import Stage
from fallow.study.trained import maps
from fallow.study.trained.fit import Fit
from fallow.study.trained.guide import by_position
from tests.study.digits import assert_same, context, decisions, figures, hasten, posteriors
from tests.study.test_resume import Killed
from tests.study.trained import replay, study, write


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("digits") / "data")


@pytest.fixture(autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, tmp_path_factory.getbasetemp() / "trained-cache")


def cut_at(step: int, rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock jump in the fits of a rung."""
    run = Loop.run

    def late(self: Loop, stop: Any = None) -> Any:
        if stop is None or not self.title.startswith(rung):
            return run(self, stop)
        return run(self, lambda number, seconds: stop(number, 1e6 if number >= step else 0.0))

    monkeypatch.setattr(Loop, "run", late)


def test_a_fit_that_the_clock_cuts_is_told_and_cut_there_again_on_resume_and_on_replay(
    data: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_at(3, "finetune", patch)
        result = study(data, tmp_path / "cut", rungs="finetune,joint")
    told = [note for note in result.study.notes if "was cut at step 3 of 5" in note]
    assert len(told) == 3  # two folds and the refit
    assert decisions(tmp_path / "cut")["finetune.training"]["value"]["done"] == 3
    assert decisions(tmp_path / "cut")["joint.training"]["value"]["done"] == 5
    cuts = yaml.safe_load((tmp_path / "cut" / "config.yaml").read_text())["replay"]["cuts"]
    assert cuts == {"finetune/0-0": 3, "finetune/0-1": 3, "finetune/final": 3}
    for number, run in enumerate(("cut", "0")):  # a replay of a replay too
        again = replay(data, tmp_path / run, tmp_path / str(number))
        assert again.study.notes == result.study.notes
        assert figures(tmp_path / str(number)) == figures(tmp_path / "cut")
        assert posteriors(tmp_path / str(number)) == posteriors(tmp_path / "cut")
    with pytest.MonkeyPatch.context() as patch:
        cut_at(3, "finetune", patch)
        keep = Stage.keep_cut
        patch.setattr(Stage, "keep_cut", lambda *given: (keep(*given), _strike()))
        with pytest.raises(Killed):
            study(data, tmp_path / "killed", rungs="finetune,joint")
    study(data, tmp_path / "killed", rungs="finetune,joint")  # by a clock that is not late
    assert Stage(next((tmp_path / "killed" / "stages").glob("*-finetune"))).cuts() == {"0-0": 3}
    (tmp_path / "cut" / "result.json").unlink()
    study(data, tmp_path / "cut", rungs="finetune,joint")
    assert figures(tmp_path / "cut") == figures(tmp_path / "0")


def _strike() -> None:
    raise Killed


@pytest.mark.parametrize("where", ["fold", "refit", "killed"])
def test_a_rung_whose_training_breaks_down_is_given_up_and_the_run_goes_on(
    where: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rate is a million, and more, in all fits of the rung or in its refit alone."""
    out = tmp_path / "run"
    settings = Fit.settings

    def wild(self: Fit, steps: int) -> LoopSettings:
        made = settings(self, steps)
        broken = not self.joint and steps == 5 and (where != "refit" or self.fold is None)
        return replace(made, lr=1e30, clip=0.0, warmup=0.0, optimizer="sgd") if broken else made

    monkeypatch.setattr(Fit, "settings", wild)
    result = study(data, out, rungs="finetune,joint")
    assert [row.rung for row in result.study.rungs] == ["probe", "joint"]
    told = [note for note in result.study.notes if note.startswith("finetune was given up: the ")]
    assert len(told) == 1
    assert "lower the learning rate" in told[0]
    assert decisions(out)["finetune.folds"]["value"] == "given up"
    assert {row["rung"] for row in posteriors(out)} == {"probe", "joint"}
    first = figures(out)
    if where == "killed":
        struck = tmp_path / "struck" / "run"
        keep = Stage.keep_plan

        def kept(self: Stage, plan: Any) -> None:
            keep(self, plan)
            if strike and plan.skipped:
                _strike()

        strike = True
        monkeypatch.setattr(Stage, "keep_plan", kept)
        with pytest.raises(Killed):
            study(data, struck, rungs="finetune,joint")
        strike = False
        study(data, struck, rungs="finetune,joint")
        assert_same(out, struck)
    (out / "result.json").unlink()
    study(data, out, rungs="finetune,joint")
    assert figures(out) == first
    replay(data, out, tmp_path / "again")
    assert figures(tmp_path / "again")["rungs"] == first["rungs"]
    assert posteriors(tmp_path / "again") == posteriors(out)


def test_a_run_of_which_every_network_breaks_down_leaves_the_cheap_rungs(data: Path, tmp_path: Path) -> None:
    result = study(
        data,
        tmp_path / "run",
        set={"optimization.lr": 1e6, "optimization.optimizer": "sgd", "optimization.clip": 1e9},
    )
    assert [row.rung for row in result.study.rungs] == ["probe", "propagate"]
    given_up = [note for note in result.study.notes if "was given up" in note]
    assert len(given_up) == 3
    first = figures(tmp_path / "run"), decisions(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    study(data, tmp_path / "run")
    assert (figures(tmp_path / "run"), decisions(tmp_path / "run")) == first


def test_a_rung_that_its_share_of_the_time_does_not_hold_is_left_out_and_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUNGS["joint"], "estimate", lambda ctx: Cost(1000.0))
    result = study(data, tmp_path / "run", rungs="finetune,joint")
    assert [row.rung for row in result.study.rungs] == ["probe", "finetune"]
    (told,) = [
        note for note in result.study.notes if note.startswith("joint was skipped: 5 steps on 2 folds")
    ]
    assert "its share of the time left is" in told
    assert decisions(tmp_path / "run")["joint.folds"]["value"] == "skipped"


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(fallow.study.ladder, "audit", lambda *given, **named: pytest.fail("read"))
    with pytest.raises(ConfigError, match="logging to wandb needs its package: pip install wandb"):
        study(data, tmp_path / "run", set={"log.to": "wandb"})


def test_a_methods_own_head_starts_the_same_whatever_was_drawn_before(data: Path, tmp_path: Path) -> None:
    states = []
    for seed in (0, 1):
        ctx = context(data, tmp_path / "cache")
        ctx.config.method = "softmatch+abc"
        torch.manual_seed(seed)
        states.append(RUNGS["joint"].fit(ctx, None, {}, 2).state()[0])
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)


def test_a_network_that_recomputes_its_activations_is_trained_on_pixels(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm runs the blocks in a way of its own then, that the tail of a cut network does not know."""

    class AskedForACut(Exception):
        pass

    def cut(network: Network) -> None:
        raise AskedForACut

    monkeypatch.setattr(maps, "find_cut", cut)
    ctx, start = context(data, tmp_path / "cache"), create_backbone("test_efficientnet", size=32)
    network = from_backbone(start, nn.Linear(start.dim, 3), 32, trainable="last")
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(AskedForACut):
        maps.bank_of(ctx, network, pixels, None)
    ctx.config.optimization.gradient_checkpointing = True
    assert maps.bank_of(ctx, network, pixels, None) is None


def test_a_network_that_cannot_be_had_is_told_before_anything_is_fitted(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(WeightsError, match="resnet18"):
        study(data, out, set={"network.backbone": "resnet18"})
    assert not list(out.glob("stages/*/fold-*"))


def test_the_files_of_a_tracker_outlive_the_fit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Writer:
        def __init__(self, folder: str) -> None:
            self.file = Path(folder) / "events"
            self.file.parent.mkdir(parents=True)

        def add_scalar(self, key: str, value: float, step: int) -> None:
            with self.file.open("a") as file:
                file.write(f"{key} {step}\n")

        def close(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    study(data, tmp_path / "run", rungs="propagate,finetune", set={"log.to": "tensorboard"})
    found = sorted((tmp_path / "run" / "trackers").rglob("events"))
    assert len(found) == 3  # two folds and the refit
    assert "supervised_loss" in found[0].read_text()


def test_without_time_no_network_is_looked_at(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "left", property(lambda self: 1.0))
    monkeypatch.setattr(Fit, "of", lambda *given, **named: pytest.fail("looked at"))
    study(data, tmp_path / "run")
    told = " ".join(figures(tmp_path / "run")["notes"])
    assert "finetune was skipped: no time was left" in told
    assert "ensemble was skipped: there is none of" in told


def test_what_the_teacher_said_is_looked_up_where_the_batch_is() -> None:
    probs = torch.rand(7, 3).softmax(1)
    say = by_position(probs)
    for index in (torch.tensor([6, 0, 6]), torch.tensor([2])):
        assert torch.equal(say(index).probs, probs[index])
    # A tensor without memory, as an accelerator's is for the processor: looking at it would fail, and there wait.
    assert say(torch.zeros(4, dtype=torch.long, device="meta")).probs.shape == (4, 3)


def seen_seconds(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a trained network take so many seconds for each image that it is asked about."""
    monkeypatch.setattr(trained, "answer_seconds", lambda *given: seconds)


def test_a_test_split_that_a_network_reads_slowly_is_planned_for_before_its_first_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 test images and a pool of 30, as 10,000 would be on a network that takes 20 ms."""
    seen: dict[str, float] = {}
    monkeypatch.setattr(RUNGS["finetune"], "prepare", lambda *given: 0.0)
    for seconds in (0.0, 5.0):
        kept: list[Pace] = []
        monkeypatch.setattr(Pace, "__init__", keeping(kept, Pace.__init__))
        seen_seconds(seconds, monkeypatch)
        out = tmp_path / str(seconds)
        study(data, out, rungs="finetune,joint")
        made = Stage(next((out / "stages").glob("*-finetune"))).plan()
        assert made is not None
        assert made.after == pytest.approx(42 * seconds)
        assert kept[0].owed == {"finetune": made.after, "joint": made.after}
        seen[out.name] = float(made.seconds or 0.0)
        (out / "result.json").unlink()
        study(data, out, rungs="finetune,joint")  # a run that goes on keeps as much time
        assert kept[1].owed == kept[0].owed
    share = share_of("finetune", ("probe", "finetune", "joint"))
    assert seen["0.0"] - seen["5.0"] == pytest.approx(share * 42 * 5.0, abs=10.0)


def test_where_the_answers_alone_take_all_the_time_no_step_is_measured(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("finetune", "joint"):
        monkeypatch.setattr(RUNGS[name], "estimate", lambda ctx: pytest.fail("measured"))
    seen_seconds(1000.0, monkeypatch)
    study(data, tmp_path / "run", rungs="finetune,joint")
    told = " ".join(figures(tmp_path / "run")["notes"])
    assert "finetune was skipped: no time was left" in told
    assert "joint was skipped: no time was left" in told


def keeping(kept: list[Pace], make: Any) -> Any:
    def made(self: Pace, *given: Any) -> None:
        make(self, *given)
        kept.append(self)

    return made


def test_time_that_a_rung_would_have_needed_after_the_climb_is_given_back_when_it_is_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Pace] = []
    monkeypatch.setattr(Pace, "__init__", keeping(kept, Pace.__init__))
    monkeypatch.setattr(RUNGS["joint"], "estimate", lambda ctx: Cost(1000.0))
    seen_seconds(1.0, monkeypatch)
    study(data, tmp_path / "run", rungs="joint")
    assert kept[0].owed == {}


def test_a_student_pays_for_what_its_teachers_say_of_the_pool(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_seconds(0.5, monkeypatch)
    ctx = context(data, tmp_path / "cache")
    pool = 0.5 * len(ctx.pool)
    assert RUNGS["joint"].estimate(ctx).beside == 0
    for rungs, rounds, asked in (
        ("joint,noisy_student", 1, 1),
        ("propagate,noisy_student", 1, 0),
        ("propagate,noisy_student", 3, 2),
        ("joint,noisy_student", "auto", 2),
        ("pretrain,noisy_student", 1, 2),
    ):
        ctx.config.rungs, ctx.config.noisy_student.rounds = rungs, rounds  # type: ignore[assignment]
        assert RUNGS["noisy_student"].estimate(ctx).beside == pytest.approx(asked * pool), (rungs, rounds)


def test_what_a_network_takes_for_an_image_is_measured_from_its_file(data: Path, tmp_path: Path) -> None:
    """On images in memory alone it would look as fast as a step, whatever the files are."""
    ctx = context(data, tmp_path / "cache")
    quick = RUNGS["joint"].answer(ctx)
    slow = context(data, tmp_path / "cache")
    read = slow.data.reader.read
    slow.data.reader.read = lambda name: time.sleep(0.02) or read(name)  # type: ignore[method-assign,func-returns-value]
    each = RUNGS["joint"].answer(slow)
    assert each > quick
    assert each >= 0.02 / cores()


@pytest.mark.parametrize(("asked", "guided"), [("auto", True), ("propagate", True), ("none", False)])
def test_joint_training_from_scratch_is_guided_by_what_propagation_says_of_the_pool(
    data: Path, tmp_path: Path, asked: str, guided: bool
) -> None:
    ctx = context(data, tmp_path / "cache")
    ctx.config.joint.guide = asked  # type: ignore[assignment]
    fit, spread = Fit.of(ctx, None, joint=True), RUNGS["propagate"].fit(ctx, None, {})
    guide = RUNGS["joint"].method(fit, {"propagate": spread}, 10)._guide  # type: ignore[attr-defined]
    assert (guide is not None) == guided
    if guided:
        index = torch.tensor([3, 0])
        torch.testing.assert_close(guide(index).probs, fit.pool_probs(spread)[index].float())  # type: ignore[arg-type]
    assert RUNGS["joint"].method(fit, {}, 10)._guide is None  # type: ignore[attr-defined]
