"""A short run in which the learning rate rises shows which rates work."""

from __future__ import annotations

import math

import pytest

from fallow.engine import losses_at, set_lr
from fallow.search import rate_range, rising_rates
from tests.engine.digits import SAME, changed, make_loop, no_norm


def test_each_step_has_the_rate_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = make_loop("finetune", changed(lr=1e-3, steps=6, warmup=0.3), changes=SAME)
    taken: list[set[float]] = []

    def set_and_see(*given: object) -> None:
        set_lr(*given)  # type: ignore[arg-type]
        taken.append({round(group["lr"], 9) for group in loop.optimizer.param_groups})

    monkeypatch.setattr("fallow.engine.loop.set_lr", set_and_see)
    rates = [1e-4, 1e-3, 1e-2, 0.1]
    assert len(losses_at(loop, rates)) == 4
    assert taken == [{rate} for rate in rates]


def test_losses_fall_at_good_rates_and_rise_for_good_at_rates_that_are_too_high() -> None:
    settings = changed(steps=60, batch_size=20, lr=1e-3, ema_decay=0.0, clip=0.0, optimizer="sgd")
    loop = make_loop("finetune", settings, network=no_norm(), changes=SAME)
    rates = rising_rates(1e-4, 1e3, 60).tolist()
    losses = losses_at(loop, rates)
    found = rate_range(rates, losses)
    assert losses[0] == pytest.approx(math.log(4), rel=0.1)
    assert found.steepest is not None
    assert found.diverged is not None
    assert 1e-3 < found.steepest < found.diverged < 1e3


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    settings = changed(steps=50, lr=1.0, ema_decay=0.0, clip=0.0, optimizer="sgd")
    loop = make_loop("finetune", settings, network=no_norm(), changes=SAME)
    losses = losses_at(loop, [1e30] * 50)
    assert len(losses) < 50
    assert not math.isfinite(losses[-1])
    assert all(math.isfinite(loss) for loss in losses[:-1])
