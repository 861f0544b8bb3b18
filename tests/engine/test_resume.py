"""Killed and resumed, a fit ends with the weights that it would have ended with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fallow.engine.loop
from fallow.engine import Loop, LoopSettings, Outcome, Place, load_checkpoint
from tests.engine.digits import (
    SETTINGS,
    assert_same_weights,
    changed,
    make_loop,
    method_named,
    no_norm,
    weights,
)

STEPS = SETTINGS.steps
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("softmatch", {}, {"momentum": 0.9}),
    ("flexmatch", {"optimizer": "sgd", "lr": 0.02}, {"threshold": 0.3}),
    ("freematch", {"optimizer": "lamb", "weight_decay": 0.1}, {}),
    ("adamatch+abc", {"accumulate": 2}, {"momentum": 0.9, "balanced_threshold": 0.3}),
    ("mean_teacher", {"ema_decay": 0.0, "optimizer": "sgd"}, {}),
    ("finetune", {"unlabeled_batch": 0, "clip": 0.0}, {}),
    ("noisy_student", {}, {}),
]


class Killed(BaseException):
    """What a test raises where a kill would strike."""


@pytest.fixture(autouse=True)
def _checkpoint_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallow.engine.loop, "_CHECKPOINT_SECONDS", -1.0)


def kill_after(step: int) -> Callable[[str, int, int], None]:
    """Strike when ``step`` steps are done, before they are kept."""

    def progress(title: str, done: int, of: int) -> None:
        if done == step:
            raise Killed

    return progress


def result(loop: Loop, outcome: Outcome) -> dict[str, Any]:
    optimizer = {
        f"{n}.{k}": torch.as_tensor(v)
        for n, state in loop.optimizer.state_dict()["state"].items()
        for k, v in state.items()
        if v is not None
    }
    return {**weights(outcome.network), **weights(outcome.method), **optimizer, **weights(loop.trainee)}


@pytest.mark.parametrize(("name", "what", "options"), CASES, ids=[case[0] for case in CASES])
def test_a_fit_killed_after_any_step_and_resumed_ends_as_one_that_was_not(
    name: str, what: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    settings = changed(**what)

    def loop(place: Place | None, **how: Any) -> Loop:
        return make_loop(name, settings, options=options, place=place, chance_loss=1.386, **how)

    whole = loop(Place(tmp_path / "whole"))
    expected = whole.run()
    for kills in ((1, 5, 6), (STEPS,)):
        place = Place(tmp_path / str(kills[0]))
        for kill in kills:
            with pytest.raises(Killed):
                loop(place, progress=kill_after(kill)).run()
        resumed = loop(place)
        torch.rand(7)  # what was drawn before does not matter
        outcome = resumed.run()
        assert_same_weights(result(resumed, outcome), result(whole, expected))
        assert outcome.steps == expected.steps == STEPS
        assert outcome.figures == expected.figures
        assert outcome.findings == expected.findings
        assert place.log.read_text() == (tmp_path / "whole" / "train.jsonl").read_text()


def test_the_same_seed_gives_the_same_weights_and_another_seed_gives_others() -> None:
    one, two, other = (make_loop("softmatch", changed(seed=seed)).run() for seed in (1, 1, 2))
    assert_same_weights(weights(one.network), weights(two.network))
    assert not torch.equal(one.network.head.weight, other.network.head.weight)  # type: ignore[attr-defined]


def half_way(place: Place, settings: LoopSettings = SETTINGS, name: str = "softmatch") -> None:
    with pytest.raises(Killed):
        make_loop(name, settings, place=place, progress=kill_after(4)).run()
    assert place.checkpoint.is_file()


@pytest.mark.parametrize(
    "what", [{"lr": 1e-3}, {"steps": 9}, {"seed": 4}, {"ema_decay": 0.0}, {"optimizer": "sgd"}], ids=str
)
def test_a_checkpoint_of_other_settings_is_not_gone_on_from(what: dict[str, Any], tmp_path: Path) -> None:
    half_way(Place(tmp_path))
    resumed = make_loop("softmatch", changed(**what), place=Place(tmp_path))
    fresh = make_loop("softmatch", changed(**what))
    assert_same_weights(result(resumed, resumed.run()), result(fresh, fresh.run()))


def test_a_checkpoint_of_another_method_or_network_is_not_gone_on_from(tmp_path: Path) -> None:
    half_way(Place(tmp_path))
    for name, network in (("adamatch", None), ("flexmatch", None), ("softmatch", no_norm())):
        loop = make_loop(name, network=network, place=Place(tmp_path))
        before = weights(loop.trainee)
        assert loop._resume() == (0, {})
        assert_same_weights(weights(loop.trainee), before)


def test_a_checkpoint_that_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    place = Place(tmp_path)
    half_way(place)
    content = place.checkpoint.read_bytes()
    fresh = make_loop()
    expected = result(fresh, fresh.run())
    header = int.from_bytes(content[:8], "little")
    damaged = (
        b"",
        b"no checkpoint",
        content[: len(content) // 2],
        content[:-1],
        content[:40] + b"?" + content[41:],
        content[: 8 + header].replace(b'\\"step\\"', b'\\"stap\\"') + content[8 + header :],
    )
    for bad in damaged:
        place.checkpoint.write_bytes(bad)
        loop = make_loop(place=place)
        assert_same_weights(result(loop, loop.run()), expected)


def test_what_a_checkpoint_holds_is_what_the_next_step_needs_and_no_copy_of_a_methods_memory(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    half_way(place, name="flexmatch")
    from safetensors import safe_open

    with safe_open(place.checkpoint, framework="pt") as file:
        names = set(file.keys())
        assert json.loads(file.metadata()["loop"])["step"] == 3
    assert "model.method.learned" in names
    assert "ema.method.learned" not in names
    assert "ema.network.head.weight" in names
    loop = make_loop("flexmatch")
    step, _ = load_checkpoint(place.checkpoint, loop.trainee, loop.ema, loop.optimizer, SETTINGS)
    assert step == 3


def test_a_fit_that_was_ended_early_says_how_many_steps_it_took() -> None:
    ended = make_loop().run(lambda step, seconds: step >= 3)
    assert ended.steps == 3
    short = make_loop()
    for step in range(3):
        short._step(step)
    assert short.ema is not None
    assert_same_weights(weights(ended.network), weights(short.ema.module.network))  # type: ignore[arg-type]


def test_a_methods_prediction_head_is_averaged_and_what_it_remembers_is_as_it_is() -> None:
    method = method_named("flexmatch+abc", threshold=0.0, balanced_threshold=0.0)
    loop = make_loop(method)
    outcome = loop.run()
    averaged, live = weights(outcome.method), weights(loop.trainee.method)
    assert not torch.equal(averaged["head.weight"], live["head.weight"])
    for name in ("inner.learned", "counts"):
        assert torch.equal(averaged[name], live[name])
        assert live[name].any()
