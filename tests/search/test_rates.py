"""What a run with rising learning rates tells."""

from __future__ import annotations

import numpy as np
import pytest

from fallow.search import rate_range, rising_rates


def planted(rates: np.ndarray, steepest: float, diverges: float, noise: float = 0.0) -> np.ndarray:
    """Return losses that fall fastest at one rate and rise steeply beyond another."""
    fall = 2.3 - 1.5 / (1 + (steepest / rates) ** 2)
    drawn = np.random.default_rng(0).normal(0, noise, len(rates))
    return fall + (rates / diverges) ** 4 + drawn


def test_rates_rise_by_a_fixed_multiple() -> None:
    rates = rising_rates(1e-5, 1.0, 6)
    np.testing.assert_allclose(rates[1:] / rates[:-1], 10)


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("steepest", [3e-4, 3e-3, 3e-2])
def test_the_steepest_fall_the_lowest_loss_and_the_rise_are_found(steepest: float, noise: float) -> None:
    rates = rising_rates(1e-6, 10.0, 120)
    found = rate_range(rates, planted(rates, steepest, 30 * steepest, noise))
    assert found.steepest is not None
    assert found.lowest is not None
    assert found.diverged is not None
    assert found.suggestion is not None
    # Smoothing looks back over five steps, which are a factor of two here.
    assert steepest / 3 < found.steepest < 4 * steepest
    assert found.steepest < found.lowest < found.diverged
    assert 20 * steepest < found.diverged < 120 * steepest
    assert found.steepest / 4 < found.suggestion < found.ceiling == found.diverged / 2


def test_losses_that_never_fall_suggest_nothing() -> None:
    rates = rising_rates(1e-6, 1e-3, 50)
    flat = rate_range(rates, 2.3 + np.random.default_rng(0).normal(0, 0.01, 50))
    assert (flat.suggestion, flat.diverged, flat.ceiling) == (None, None, float("inf"))


def test_a_loss_that_is_no_number_ends_the_range_and_may_end_the_run() -> None:
    rates = rising_rates(1e-4, 1e2, 60)
    losses = planted(rates, 1e-2, 1e9)
    found = rate_range(rates, [*losses[:40], float("nan")])
    assert found.diverged == rates[40]
    assert found.suggestion is not None
    assert rate_range(rates, [float("inf")]).ceiling == rates[0] / 2


def test_rates_and_losses_have_to_fit() -> None:
    with pytest.raises(ValueError, match="should rise"):
        rising_rates(1.0, 0.1, 10)
    with pytest.raises(ValueError, match="a loss for each"):
        rate_range([0.1, 0.2], [1.0, 2.0, 3.0])
