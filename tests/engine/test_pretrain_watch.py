"""What goes wrong in learning from images alone is named, in words, within the first steps; what goes right is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fallow.engine import Diverged, Loop, Place
from fallow.engine.pretrain_watch import PretrainWatch
from fallow.engine.representation import alignment, direction_spread, effective_rank, uniformity
from fallow.methods import Batch, Step
from fallow.methods.pretrain import SimCLR, SimSiam
from fallow.methods.pretrain import simclr as simclr_module
from tests.methods.pretrain.digits import make_loop, network, settings


class NoStopGradient(SimSiam):
    def target(self, projected: Tensor) -> Tensor:
        return projected


def findings_after(loop: Loop, steps: int) -> dict[str, str]:
    """Take so many of the steps and return what was found by then."""
    for step in range(steps):
        loop._step(step)
    return {kind: found.sentence for kind, found in loop.watch.findings.items()}


def begun(name: str, planned: int, **how: Any) -> Loop:
    return make_loop(name, settings(steps=planned, unlabeled_batch=64, **how), count=600)


def test_a_learning_rate_of_a_hundred_times_is_named_within_a_twentieth_of_the_run() -> None:
    found = findings_after(begun("simclr", 400, lr=0.2), 20)
    assert "learning rate is too high" in found["rate"]


def test_collapse_without_stop_gradient_is_named_within_a_twentieth_of_the_run() -> None:
    loop = make_loop(NoStopGradient(), settings(steps=1000, unlabeled_batch=64, lr=4e-3), count=600)
    assert "collapsed" in findings_after(loop, 50)["collapse"]


def test_normalization_along_the_wrong_axis_is_named_within_a_twentieth_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simclr_module, "normalize", lambda x, dim: functional.normalize(x, dim=0))
    assert "wrong axis" in findings_after(begun("simclr", 200), 10)["wrong axis"]


def test_identical_views_are_named_and_end_the_run() -> None:
    told: list[str] = []
    loop = make_loop(SimCLR(), settings(steps=40), changes={}, tell=told.append)
    outcome = loop.run()
    assert outcome.steps < 20
    assert [found.kind for found in outcome.findings] == ["identical views"]
    assert "the same picture" in told[0]
    assert told[0].startswith("at step 1 of 40")


@pytest.mark.parametrize("name", ["simclr", "simsiam", "moco"])
def test_nothing_is_said_of_a_run_that_learns(name: str) -> None:
    loop = begun(name, 40)
    findings_after(loop, 40)
    assert loop.watch._told == set()
    assert not loop.watch.findings
    assert not loop.watch.hopeless


def feed(watch: PretrainWatch, steps: range, loss: float, chance: float = 4.0, **health: Tensor) -> None:
    for step in steps:
        watch.see_batch(
            step, Step(torch.tensor(loss), health={"chance_loss": chance, **health}), Batch(torch.arange(4))
        )


def test_a_loss_at_chance_is_told_after_a_quarter_and_ends_the_run_after_half() -> None:
    watch = PretrainWatch(100, network())
    feed(watch, range(20), 3.99)
    assert not watch.findings
    feed(watch, range(20, 40), 3.99)
    assert "chance value 4.000" in watch.findings["chance"].sentence
    assert not watch.hopeless
    feed(watch, range(40, 60), 3.99)
    assert watch.hopeless
    assert "another learning rate" in watch.findings["chance"].sentence
    late = PretrainWatch(100, network(), chance_is_final=False)
    feed(late, range(60), 3.99)
    assert not late.hopeless
    assert "prototypes stay there for long" in late.findings["chance"].sentence
    better = PretrainWatch(100, network())
    feed(better, range(60), 3.5)
    assert not better.findings


def test_features_that_lose_directions_are_told() -> None:
    watch = PretrainWatch(100, network())
    feed(watch, range(30), 3.0, features=torch.randn(32, 16))
    flat = torch.randn(32, 1) @ torch.randn(1, 16) + 0.01 * torch.randn(32, 16)
    feed(watch, range(30, 60), 3.0, features=flat)
    assert "effective rank" in watch.findings["rank"].sentence
    assert not watch.hopeless


def test_a_loss_that_is_no_number_is_told_with_its_step_and_its_images() -> None:
    watch = PretrainWatch(1000, network())
    feed(watch, range(7), 3.0)
    with pytest.raises(Diverged, match=r"nan at step 8 of 1000 \(images 0, 1, 2, 3 of the pool\)"):
        feed(watch, range(7, 10), float("nan"))


def test_a_watch_that_goes_on_says_what_it_would_have_said(tmp_path: Path) -> None:
    whole, first, second = (PretrainWatch(100, network()) for _ in range(3))
    torch.manual_seed(0)
    seen = {"features": torch.randn(32, 16), "embeddings": torch.randn(32, 8), "partners": torch.randn(32, 8)}
    feed(whole, range(80), 3.99, **seen)
    feed(first, range(41), 3.99, **seen)
    second.restore(first.state())
    feed(second, range(41, 80), 3.99, **seen)
    assert second.state() == whole.state()
    assert second.findings == whole.findings


def test_a_run_that_was_ended_as_hopeless_says_so_again_when_it_goes_on(tmp_path: Path) -> None:
    outcomes = [
        make_loop(SimCLR(), settings(steps=40), changes={}, place=Place(tmp_path)).run() for _ in range(2)
    ]
    assert outcomes[0].steps == outcomes[1].steps
    assert outcomes[0].findings == outcomes[1].findings


def test_measures_of_vectors_have_their_known_values() -> None:
    torch.manual_seed(0)
    same, apart = torch.ones(64, 8), torch.eye(8).repeat(8, 1)
    assert effective_rank(same) == pytest.approx(1, abs=0.01)
    assert effective_rank(same, centered=True) == 1
    assert effective_rank(apart) == pytest.approx(8, abs=0.01)
    assert effective_rank(torch.diag(torch.tensor([4.0, 4.0, 0.0]))) == pytest.approx(2, abs=0.01)
    assert direction_spread(same) == 0
    assert direction_spread(torch.randn(256, 8)) == pytest.approx(1, abs=0.03)
    assert alignment(apart, apart) == 0
    assert alignment(apart, -apart) == pytest.approx(4)
    assert uniformity(same) == 0
    assert uniformity(torch.randn(256, 64)) < -3.5
