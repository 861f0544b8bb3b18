"""The rung that learns from the pool alone first: once, from no label, and only where nobody knows more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fallow.config import TrainConfig, build
from fallow.data import open_source
from fallow.engine import Loop
from fallow.errors import ConfigError
from fallow.record import RunDir
from fallow.study import Study
from fallow.study.candidates import TrainedCandidate
from fallow.study.context import RungContext
from fallow.study.data import plan_folds
from fallow.study.evidence import OutOfFold
from fallow.study.judge import Judge
from fallow.study.pretraining.within import PoolLesson, learned_from_pool
from fallow.study.rungs import RUNGS
from fallow.study.trained.fit import Fit
from tests.study.digits import context, decisions, fit, hasten, model, write_digits
from tests.study.trained import replay, study, write


@pytest.fixture
def ctx(tmp_path: Path) -> RungContext:
    return context(write_digits(tmp_path / "data", labels=4), tmp_path / "cache")


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[Loop]:
    """Return the loops that are run from now on."""
    run, seen = Loop.run, []  # type: ignore[var-annotated]

    def counted(self: Loop, *given: object) -> object:
        seen.append(self)
        return run(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Loop, "run", counted)
    return seen


def weights(ctx: RungContext) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = learned_from_pool(ctx, 5).backbone.module.state_dict()
    return found


def test_one_network_that_saw_the_pool_alone_serves_all_folds(ctx: RungContext, loops: list[Loop]) -> None:
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)
    made = [RUNGS["pretrain"].fit(ctx, fold, {}, 5) for fold in (*folds[:2], None)]
    assert len(loops) == 1
    names = {network for one in made if isinstance(one, TrainedCandidate) for network in one.networks}
    assert names == {"pretrain/small_resnet_8"}
    spaces = [{s.backbone_name for s in one.classifier.spaces} for one in made]  # type: ignore[attr-defined]
    assert spaces == [{"pixels", "pretrain/small_resnet_8"}] * 3
    pool = PoolLesson.of(ctx).lesson.pixels
    seen = {image.tobytes() for image in pool}
    assert len(pool) == len(ctx.pool)
    assert not {np.stack([ctx.labeled.read(i)] * 3, -1).tobytes() for i in ctx.labeled.ids} & seen


def test_labels_change_nothing_of_the_network(ctx: RungContext) -> None:
    y = (ctx.data.y + 1) % len(ctx.data.classes)
    other = replace(ctx, data=replace(ctx.data, y=y), scratch={})
    one, two = weights(ctx), weights(other)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_student_begins_as_the_network_that_learned_from_the_pool(ctx: RungContext) -> None:
    spread, pretrained = (RUNGS[name].fit(ctx, None, {}, 5) for name in ("propagate", "pretrain"))
    below, student, fit = (
        {"propagate": spread, "pretrain": pretrained},
        RUNGS["noisy_student"],
        Fit.of(ctx, None, joint=True),
    )
    network = student.network(fit, below)  # type: ignore[attr-defined]
    begun = network.module.state_dict()
    assert all(torch.equal(begun[name], tensor) for name, tensor in weights(ctx).items())
    assert ctx.decisions.get("noisy_student.start") is not None
    images = (
        torch.from_numpy(fit.material.pixels[fit.material.unlabeled.numpy()])
        .permute(0, 3, 1, 2)
        .float()
        .div(255)
    )
    said = network.eval()(images).argmax(1)
    assert (
        said == fit.pool_probs(pretrained).argmax(1)
    ).float().mean() > 0.9  # its head knows what is said with it
    random = student.network(fit, {"propagate": spread}).module.state_dict()  # type: ignore[attr-defined]
    assert not all(torch.equal(random[name], begun[name]) for name in begun)
    before = {name: tensor.clone() for name, tensor in weights(ctx).items()}
    student.fit(ctx, None, below, 4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(ctx).items())
    tuned = RUNGS["finetune"].network(fit, below).module.state_dict()  # type: ignore[attr-defined]
    assert not all(torch.equal(tuned[name], begun[name]) for name in begun)


def test_a_network_that_was_learned_before_a_kill_is_not_learned_again(
    ctx: RungContext, tmp_path: Path, loops: list[Loop]
) -> None:
    ctx.shared = tmp_path / "shared"
    first = weights(ctx)
    again = replace(ctx, scratch={})
    second = weights(again)
    assert len(loops) == 1
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert learned_from_pool(ctx, 5).record == learned_from_pool(again, 5).record


def test_killed_while_it_learns_and_resumed_the_run_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data, asked = write(tmp_path / "data"), {"set": {"pretrain.method": "moco"}}  # has a teacher and a queue
    study(data, tmp_path / "whole", rungs="pretrain", **asked)
    step, count = Loop._step, 0

    def struck(self: Loop, number: int) -> object:
        nonlocal count
        count += 1
        if count == 4:
            self.save(number, {})
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(Loop, "_step", struck)
    with pytest.raises(KeyboardInterrupt):
        study(data, tmp_path / "killed", rungs="pretrain", **asked)
    study(data, tmp_path / "killed", rungs="pretrain", **asked)
    stages = [tmp_path / name / "stages" / "2-pretrain" for name in ("whole", "killed")]
    left, right = ((stage / "final.safetensors").read_bytes() for stage in stages)
    assert left == right
    assert not list(stages[1].glob("fit-*"))
    assert (stages[1] / "train-shared.jsonl").is_file()


def test_a_run_with_it_is_done_again_from_its_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write(tmp_path / "data")
    study(data, tmp_path / "one", rungs="propagate,pretrain")
    replay(data, tmp_path / "one", tmp_path / "two")
    made = decisions(tmp_path / "one")
    assert made["pretrain.method"]["value"] == "moco"  # few images make small batches
    assert made["pretrain.training"] == decisions(tmp_path / "two")["pretrain.training"]
    one, two = model(tmp_path / "one"), model(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("rungs", "network", "tried"),
    [
        ("auto", "scratch", True),
        ("auto", "pretrained", False),
        ("auto", None, False),
        ("pretrain,ensemble", "pretrained", True),
    ],
)
def test_unasked_it_is_tried_where_the_network_starts_from_nothing(
    rungs: str, network: str | None, tried: bool, ctx: RungContext, tmp_path: Path
) -> None:
    ctx.config.rungs = rungs
    made = Study(open_source(str(tmp_path / "data")), ctx.config, RunDir(tmp_path / "run"), ctx.clock)
    made.judge = Judge(OutOfFold((), np.zeros(0, np.int64), 2), 2.0, 0, network=network)  # type: ignore[arg-type]
    made.names = tuple(n for n in ctx.config.rung_names if made._possible(ctx, RUNGS[n]))
    assert ("pretrain" in made.names) == tried
    assert ("pretrain" in made.tried) == tried  # what a run that follows this one is told


def test_a_method_that_needs_labels_or_another_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="'supcon' is not a method of this rung"):
        build(TrainConfig, {"pretrain": {"method": "supcon"}})


def test_it_answers_as_its_parts_do(ctx: RungContext) -> None:
    candidate = fit(ctx, None, "pretrain")
    said = candidate.predict(ctx.labeled).probs
    rebuilt = RUNGS["pretrain"].restore(ctx, *candidate.state())
    torch.testing.assert_close(rebuilt.predict(ctx.labeled).probs, said)
