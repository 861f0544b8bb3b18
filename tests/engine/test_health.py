"""What goes wrong is said in words, early; where nothing does, nothing is said. On real digits."""

from __future__ import annotations

import json
from math import log
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fallow.engine import Diverged, Loop, LoopSettings, Outcome, Watch
from fallow.methods import Batch, Step, StepContext, Supervised
from tests.engine.digits import changed, make_loop, material, small, task, weights

CLASSES = 10
STEPS = 200
EARLY = STEPS // 20
RUN = LoopSettings(steps=STEPS, batch_size=32, unlabeled_batch=32, lr=2e-3, ema_decay=0.9, seed=3)


class Enough(BaseException):
    """The test has heard what it wanted to hear."""


def told(
    name: Any,
    settings: LoopSettings = RUN,
    *,
    until: int = STEPS,
    network: nn.Module | None = None,
    **options: Any,
) -> list[str]:
    """Train on ten digits for some steps and return what was said."""
    said: list[str] = []
    loop = make_loop(
        name,
        settings,
        network=network or small(CLASSES, 0.0, 0.0),
        stuff=material(CLASSES, 4, 100),
        options=options,
        chance_loss=log(CLASSES),
        tell=said.append,
        classes=list("abcdefghij"),
    )
    loop.run(lambda step, seconds: step >= until)
    return said


@pytest.fixture(scope="module")
def tuned() -> dict[str, Tensor]:
    """Weights that know the digits: where joint training starts."""
    stuff = material(CLASSES, 4, 100)
    loop = make_loop("finetune", RUN, network=small(CLASSES, 0.0, 0.0), stuff=stuff)
    return weights(loop.run().network)


def knowing(tuned: dict[str, Tensor]) -> nn.Module:
    network = small(CLASSES, 0.0, 0.0)
    network.load_state_dict(tuned)
    return network


@pytest.mark.parametrize("seed", [0, 1])
def test_a_healthy_fit_on_labels_says_nothing(seed: int) -> None:
    assert told("finetune", changed(RUN, seed=seed), until=100) == []


@pytest.mark.parametrize("name", ["softmatch", "freematch", "mean_teacher", "noisy_student"])
def test_a_healthy_fit_on_labels_and_pool_says_nothing(name: str, tuned: dict[str, Tensor]) -> None:
    options = {} if name == "noisy_student" else {"momentum": 0.9}
    assert told(name, network=knowing(tuned), until=100, **options) == []


@pytest.mark.parametrize("steps", [600, 1500])
def test_a_rate_too_high_is_named_early_though_a_slow_warm_up_hides_it_from_the_loss(steps: int) -> None:
    """From scratch, by AdamW: the weights lose what they are, and the loss is hardly above that of a network that knows nothing."""
    slow = changed(RUN, steps=steps, warmup=0.05)
    (sentence,) = told("finetune", changed(slow, lr=0.2), until=steps // 20)
    assert "the learning rate is too high" in sentence
    assert "--set optimization.lr" in sentence
    assert told("finetune", changed(slow, lr=2e-3), until=steps // 20) == []


def test_a_fit_that_goes_on_knows_how_large_its_weights_were() -> None:
    network = small(CLASSES, 0.0, 0.0)
    watch = Watch(600, module=network)
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 1.5
    again = Watch(600, module=network)
    again.restore(watch.state())
    assert again.growth.times() == watch.growth.times() == pytest.approx(1.5)
    assert again.growth.sentence(9) == ""
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 2
    assert "have grown 3-fold in 10 steps" in again.growth.sentence(9)


@pytest.mark.parametrize(
    "what",
    [{"optimizer": "sgd", "lr": 5.0}, {"lr": 0.2}],
    ids=["sgd from scratch", "adamw from a good start"],
)
def test_a_learning_rate_a_hundred_times_too_high_is_named_early(
    what: dict[str, Any], tuned: dict[str, Tensor]
) -> None:
    network = None if "optimizer" in what else knowing(tuned)
    (sentence,) = told("finetune", changed(RUN, **what), network=network, until=EARLY)
    assert "the loss grows instead of falling" in sentence
    assert "--set optimization.lr" in sentence
    assert f"of {STEPS}" in sentence


def test_a_threshold_that_nothing_reaches_is_named_early(tuned: dict[str, Tensor]) -> None:
    (sentence,) = told("fixmatch", network=knowing(tuned), until=EARLY, threshold=0.9999)
    assert "only 0.0% of the unlabeled images pass the threshold" in sentence
    assert "--method softmatch" in sentence


def test_a_threshold_that_everything_passes_is_named_early() -> None:
    network = small(CLASSES, 0.0, 0.0)
    nn.init.normal_(network.head.weight, std=200.0)  # type: ignore[arg-type, union-attr]
    said = told("fixmatch", changed(RUN, lr=1e-6), network=network, until=EARLY, threshold=0.8)
    assert any("all unlabeled images pass the threshold from the start" in sentence for sentence in said)


def test_a_pool_that_is_called_one_class_is_named_early() -> None:
    network = small(CLASSES, 0.0, 0.0)
    network.head.bias.data[3] = 6.0  # type: ignore[index, union-attr]
    said = told("fixmatch", network=network, until=EARLY, threshold=0.0)
    assert any("100% of the unlabeled images are called 'd'" in sentence for sentence in said)


class Fails(Supervised):
    """A method whose loss is no number from a step on."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__(task(CLASSES))
        self.at, self.value = at, value

    def step(self, batch: Batch, ctx: StepContext) -> Step:
        made = super().step(batch, ctx)
        return Step(made.loss * self.value, made.logs) if ctx.step >= self.at else made


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_fit_and_the_step_is_named(value: float) -> None:
    with pytest.raises(Diverged, match=rf"the loss is {value} at step 18 of 1000: .*optimization\.lr"):
        told(Fails(17, value), changed(RUN, steps=1000, batch_size=8), until=30)


def test_weights_that_are_no_numbers_in_the_last_step_are_named_too() -> None:
    network = small(CLASSES, 0.0, 0.0)
    loop = make_loop(
        "finetune", changed(RUN, steps=2, batch_size=8), network=network, stuff=material(CLASSES, 4, 100)
    )
    step = loop.optimizer.step

    def spoil(*given: Any, **named: Any) -> Any:
        done = step(*given, **named)
        network.head.bias.data[0] = torch.nan  # type: ignore[index, union-attr]
        return done

    loop.optimizer.step = spoil  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"the (loss|weights)"):
        loop.run(lambda step, seconds: step >= 1)


def outcome_of(watch: Watch, losses: list[float], start: int = 0) -> None:
    for step, loss in enumerate(losses, start=start):
        watch.see(
            step, Step(torch.tensor(loss), health={"utilization": 0.3, "pseudo_classes": torch.ones(3)})
        )


def test_what_no_longer_holds_is_forgotten_and_what_was_said_is_not_said_again() -> None:
    said: list[str] = []
    watch = Watch(100, chance_loss=1.1, tell=said.append)
    outcome_of(watch, [1.1, 1.1, *[2.0] * 10])
    assert list(watch.findings) == ["growing"]
    first = watch.findings["growing"].step
    outcome_of(watch, [2.0, 2.0], 12)
    assert watch.findings["growing"].step == first
    outcome_of(watch, [0.3] * 10, 14)
    assert watch.findings == {}
    outcome_of(watch, [2.0] * 10, 24)
    assert list(watch.findings) == ["growing"]
    assert len(said) == 1


@pytest.mark.parametrize("at", [1, 7, 55, 99])
def test_a_watch_that_goes_on_says_what_it_would_have_said(at: int) -> None:
    losses = [1.1, 1.1, *[2.0] * 40, *[0.5] * 30, *[1.1] * 128]
    whole, said = Watch(200, chance_loss=1.1), list[str]()
    outcome_of(whole, losses)
    before = Watch(200, chance_loss=1.1, tell=said.append)
    outcome_of(before, losses[:at])
    after = Watch(200, chance_loss=1.1, tell=said.append)
    after.restore(json.loads(json.dumps(before.state())))
    outcome_of(after, losses[at:], at)
    assert after.findings == whole.findings
    assert after.state() == {**whole.state(), "told": after.state()["told"]}
    assert len(said) == len({sentence.split(":")[1] for sentence in said})


def test_a_fit_at_its_chance_value_is_named() -> None:
    watch = Watch(100, chance_loss=1.1)
    outcome_of(watch, [1.1] * 24)
    assert watch.findings == {}
    outcome_of(watch, [1.1] * 2, 24)
    assert "stays at its chance value 1.10" in watch.findings["chance"].sentence


def test_classes_that_are_never_predicted_are_named_at_half_time() -> None:
    watch = Watch(20, classes=["ant", "bee", "cat"])
    for step in range(10):
        counts = torch.tensor([5.0, 0.0, 4.0])
        watch.see(step, Step(torch.tensor(1.0), health={"pseudo_classes": counts}))
    assert "no unlabeled image is called 'bee'" in watch.findings["never predicted"].sentence


def test_the_accelerator_is_asked_for_figures_a_hundred_times_in_a_run_and_no_more() -> None:
    watch = Watch(3000)
    looks = [
        step for step in range(3000) if watch.see(step, Step(torch.tensor(1.0), {"rate": 2.0})) is not None
    ]
    assert len(looks) == 100
    assert looks[-1] == 2999


def test_figures_are_means_of_all_steps_since_the_last_look() -> None:
    watch = Watch(400)
    seen = [watch.see(step, Step(torch.tensor(float(step)), {"rate": 2.0})) for step in range(8)]
    assert seen[3] == {"loss": 1.5, "rate": 2.0}
    assert seen[7] == {"loss": 5.5, "rate": 2.0}
    assert [s is None for s in seen] == [True, True, True, False] * 2


def test_a_finding_is_part_of_the_outcome() -> None:
    network = small(CLASSES, 0.0, 0.0)
    loop: Loop = make_loop(
        "fixmatch",
        changed(RUN, steps=10, batch_size=8, unlabeled_batch=8),
        network=network,
        stuff=material(CLASSES, 4, 100),
        options={"threshold": 0.9999},
    )
    outcome: Outcome = loop.run()
    assert "unused" in [found.kind for found in outcome.findings]
