"""Every pretraining method through the loop: resumed, in half precision, with few images, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fallow.engine.loop
from fallow.engine import Loop, Place
from fallow.errors import ConfigError
from fallow.methods import PRETRAIN, Teacher, pretrain_method, registry
from fallow.tasks import FeatureInfo
from tests.methods.pretrain.digits import make_loop, network, settings, weights

FEW_CROPS = {"local_crops": 1}
OPTIONS: dict[str, dict[str, Any]] = {
    "swav": {**FEW_CROPS, "queue": 16},
    "dino": FEW_CROPS,
    "ibot": FEW_CROPS,
    "msn": FEW_CROPS,
    "mae": {"depth": 1},
    "deepcluster": FEW_CROPS,
    "jigsaw": {"orders": 8, "hidden": 32},
    "lejepa": {**FEW_CROPS, "slices": 16},
}
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("simclr", {"optimizer": "lars", "lr": 0.3}, {}),
    ("byol", {"optimizer": "sgd"}, {}),
    ("moco", {}, {"queue": 20}),
    ("swav", {}, {**FEW_CROPS, "queue": 16, "queue_from": 1}),
    ("dino", {"accumulate": 2}, FEW_CROPS),
    ("ibot", {}, FEW_CROPS),
    ("msn", {}, FEW_CROPS),
    ("supcon", {}, {}),
    ("triplet", {}, {}),
    ("distill", {}, {}),
    ("clusterfit", {}, {}),
    ("deepcluster", {"accumulate": 2}, {**FEW_CROPS, "prototypes": 5}),
    ("jigsaw", {}, {"orders": 8, "hidden": 16}),
    ("pirl", {}, {}),
]


def loop_of(name: str, what: Any = None, options: Any = None, **how: Any) -> Loop:
    """Return a loop with our small network, or with a small transformer for methods that need one."""
    options = OPTIONS.get(name, {}) if options is None else options
    if PRETRAIN[name].needs_tokens:
        how |= {"of": network("test_vit", 32), "dim": 64, "size": 32}
    return make_loop(name, settings(**(what or {})), options=options, **how)


class Killed(BaseException):
    """What a test raises where a kill would strike."""


def kill_after(step: int) -> Callable[[str, int, int], None]:
    def progress(title: str, done: int, of: int) -> None:
        if done == step:
            raise Killed

    return progress


@pytest.mark.parametrize(("name", "what", "options"), CASES, ids=[case[0] for case in CASES])
def test_a_run_killed_half_way_and_resumed_ends_as_one_that_was_not(
    name: str, what: dict[str, Any], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallow.engine.loop, "_CHECKPOINT_SECONDS", -1.0)
    whole = loop_of(name, what, options)
    expected = whole.run()
    with pytest.raises(Killed):
        loop_of(name, what, options, place=Place(tmp_path), progress=kill_after(4)).run()
    resumed = loop_of(name, what, options, place=Place(tmp_path))
    outcome = resumed.run()
    assert outcome.figures == expected.figures
    for mine, theirs in (
        (outcome.network, expected.network),
        (resumed.trainee, whole.trainee),
        *([(resumed.ema.module, whole.ema.module)] if resumed.ema and whole.ema else []),
    ):
        for key, tensor in weights(theirs).items():
            assert torch.equal(tensor, weights(mine)[key]), key


@pytest.mark.parametrize("name", PRETRAIN)
def test_losses_are_float32_in_half_precision_and_near_those_of_full(name: str) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        loop = loop_of(name, {"precision": precision, "steps": 2}, fabric=None)
        seen = list[Tensor]()
        step = loop.trainee.method.step

        def keep(*given: Any, step: Any = step, seen: Any = seen) -> Any:
            made = step(*given)
            seen.append(made.loss.detach())
            assert all(v.dtype != torch.bfloat16 for k, v in made.health.items() if k == "chance_loss")
            return made

        loop.trainee.method.step = keep  # type: ignore[method-assign]
        loop.run()
        assert all(loss.dtype == torch.float32 for loss in seen)
        losses.append(float(seen[0]))
    assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.05)


@pytest.mark.parametrize("name", PRETRAIN)
def test_fewer_images_than_a_batch_are_enough(name: str) -> None:
    outcome = loop_of(name, {"unlabeled_batch": 8, "steps": 2}, count=3).run()
    assert outcome.steps == 2


@pytest.mark.parametrize("name", PRETRAIN)
def test_everything_that_a_method_makes_learns(name: str) -> None:
    loop = loop_of(name, {"steps": 30, "unlabeled_batch": 8}, count=8)
    before = {k: p.detach().clone() for k, p in loop.trainee.named_parameters()}
    for step in range(3):
        loop._step(step)
    still = {k for k, p in loop.trainee.named_parameters() if p.requires_grad and torch.equal(p, before[k])}
    assert not {k for k in still if "prefix" not in k}


def test_what_leaves_is_the_students_or_the_teachers_network() -> None:
    for name, leaves in (("byol", "student"), ("dino", "teacher")):
        loop = loop_of(name)
        outcome = loop.run()
        assert loop.ema is not None
        average = loop.ema.module.network
        assert outcome.network is (average if leaves == "teacher" else loop.trainee.network)
        assert not torch.equal(average.module.stem.weight, loop.trainee.network.module.stem.weight)  # type: ignore[union-attr]


def test_a_teachers_decay_rises_to_one_and_looks_back_less_far_in_a_short_run() -> None:
    teacher = Teacher()
    assert [teacher.first(steps) for steps in (100_000, 400, 10)] == pytest.approx([0.996, 0.95, 0.9])
    for steps, first in ((10, 0.9), (400, 0.0), (100_000, 0.996)):
        decays = [teacher.decay_at(step, steps, first) for step in range(0, steps, max(1, steps // 50))]
        assert decays == sorted(decays)
        assert decays[0] == pytest.approx(first)
        assert teacher.decay_at(steps - 1, steps, first) == pytest.approx(1.0)
    constant = Teacher(0.999, None)
    assert (
        constant.decay_at(0, 10**6, 0.999)
        == constant.decay_at(10**6 - 1, 10**6, 0.999)
        == pytest.approx(0.999)
    )
    assert Teacher(0.99, None, "running").decay_at(0, 10**4, 0.99) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["byol", "moco", "dino", "ibot", "msn"])
def test_every_teacher_follows_as_slowly_as_it_is_told(name: str) -> None:
    loop = loop_of(name, {"ema_decay": 0.05, "steps": 9})
    assert loop.ema is not None
    (own, student) = loop.ema._float[0]
    own.fill_(1.0)
    loop._step(0)
    torch.testing.assert_close(own, 0.05 + 0.95 * student.detach())


@pytest.mark.parametrize(
    ("name", "steps", "size", "settled"),
    [
        ("byol", 9_999, 32, {"head": "simsiam", "predictor_rate": 10.0}),
        ("byol", 10_000, 32, {"head": "byol", "predictor_rate": 0.0}),
        ("simsiam", 100, 32, {"layers": 2, "predictor_rate": 10.0}),
        ("simsiam", 10_000, 160, {"layers": 3, "predictor_rate": 1.0}),
        ("moco", 100, 32, {"key_norm": "batch", "temperature": 0.1, "queue": 512}),
        ("moco", 100, 160, {"key_norm": "batch", "temperature": 0.2, "queue": 512}),
        (
            "dino",
            100,
            32,
            {"centering": "sinkhorn", "prototypes": 64, "teacher_first": 0.03, "teacher_last": 0.03},
        ),
        (
            "dino",
            10_000,
            32,
            {"centering": "mean", "prototypes": 512, "teacher_first": 0.04, "teacher_last": 0.07},
        ),
    ],
)
def test_papers_values_are_for_long_runs_and_what_a_short_one_takes_is_told_and_can_be_asked_for(
    name: str, steps: int, size: int, settled: dict[str, Any]
) -> None:
    method = pretrain_method(name)
    method.build(FeatureInfo(32), 4000, 0, steps, 128, size=size)
    assert {key: value for key, (value, _) in method.settled.items()} == settled
    again = pretrain_method(name, **settled)
    again.build(FeatureInfo(32), 4000, 0, steps, 128, size=size)
    assert not again.settled
    assert [p.shape for p in again.parameters()] == [p.shape for p in method.parameters()]


def test_no_image_of_a_batch_is_in_anothers_key() -> None:
    loop = loop_of("moco", options={"key_norm": "running"})
    for step in range(3):
        loop._step(step)
    images = torch.rand(6, 3, 8, 8)
    with torch.no_grad():
        (together,) = loop.ctx.teacher_features(images)
        keys = loop.ctx.teacher_method().projector(together)
        alone = [loop.ctx.teacher_method().projector(loop.ctx.teacher_features(x[None])[0]) for x in images]
    torch.testing.assert_close(keys, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert not loop.trainee.method.queue.values.requires_grad
    assert loop.ema is not None
    assert loop.ema.module.method.queue.values is loop.trainee.method.queue.values


def test_the_teachers_batch_norm_uses_its_batch_without_dropout_where_the_paper_has_it() -> None:
    loop = loop_of("byol")
    loop._step(0)
    images = torch.rand(6, 3, 8, 8)
    (one,), (two,) = loop.ctx.teacher_features(images), loop.ctx.teacher_features(images)
    assert torch.equal(one, two)
    assert not torch.allclose(one[:3], loop.ctx.teacher_features(images[:3])[0], atol=1e-4)


def test_prototypes_stand_still_in_the_first_pass_and_learn_after_it() -> None:
    for name in ("swav", "dino"):
        loop = loop_of(name, {"steps": 20}, count=40)  # 5 steps are a pass
        named = dict(loop.trainee.method.named_parameters())
        weight = next(p for k, p in named.items() if k.endswith("prototypes.weight"))
        before = nn.functional.normalize(weight.detach(), dim=1).clone()
        for step in range(5):
            loop._step(step)
        now = nn.functional.normalize(weight.detach(), dim=1)
        torch.testing.assert_close(now, before)
        loop._step(5)
        assert not torch.allclose(nn.functional.normalize(weight.detach(), dim=1), before, atol=1e-5)


def test_small_crops_have_whole_tokens_and_run_in_a_pass_of_their_own() -> None:
    loop = make_loop(
        "dino", settings(steps=2), of=network("test_vit", 64), dim=64, size=64, options={"local_crops": 2}
    )
    views = loop.feed.batch(0).unlabeled
    assert [tuple(v.shape[2:]) for v in views] == [(64, 64), (64, 64), (32, 32), (32, 32)]
    assert loop.run().steps == 2


def test_a_network_without_tokens_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="vision transformer, and this network is none"):
        make_loop("mae")


def test_a_single_image_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="1 image in batches of 8"):
        pretrain_method("simclr").build(FeatureInfo(8), 1, 0, 10, 8)


def test_unknown_names_and_options_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'simclr'"):
        pretrain_method("simclrr")
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        pretrain_method("simclr", temperatur=1)


def test_every_method_is_listed_with_what_it_needs() -> None:
    listed = {info.name: info for info in registry() if info.family == "pretrain"}
    assert listed.keys() == PRETRAIN.keys()
    assert all(
        "unlabeled" in info.needs and info.cost > 0 and "arXiv" in info.paper for info in listed.values()
    )
