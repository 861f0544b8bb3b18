"""The default is hard to beat: a planted optimum is found, and noise is not."""

from __future__ import annotations

import numpy as np
import pytest

from fallow.search import Objective, evaluations, race, star


def noisy(
    gains: list[float], seed: int, units: int = 60, spread: float = 0.5, fits: float = 0.0
) -> Objective:
    """Return losses around 1 less each candidate's gain: units vary alike for all, each alone, and with each fit."""
    hard = np.random.default_rng([seed, 0]).normal(0, 1, (10, units))

    def ask(candidate: int, block: int) -> np.ndarray:
        drawn = np.random.default_rng([seed, 1, candidate, block])
        own = drawn.normal(0, spread, units) + drawn.normal(0, fits)
        return 1 - gains[candidate] + hard[block] + own

    return ask


def test_a_planted_optimum_is_found() -> None:
    found = [race(noisy([0.0, -0.2, 0.05, 0.4, 0.0, -0.4], seed), 6, 3).chosen for seed in range(40)]
    assert found.count(3) >= 38


@pytest.mark.parametrize("fits", [0.0, 0.05])
def test_on_pure_noise_the_default_stays(fits: float) -> None:
    chosen = [race(noisy([0.0] * 6, seed, fits=fits), 6, 3).chosen for seed in range(300)]
    assert sum(one != 0 for one in chosen) / 300 <= 0.1


def test_a_gain_that_a_few_units_cannot_tell_from_chance_names_no_winner() -> None:
    few = [race(noisy([0.0, 0.1], seed, units=15), 2, 2).chosen for seed in range(100)]
    many = [race(noisy([0.0, 0.1], seed, units=2000), 2, 2).chosen for seed in range(100)]
    assert sum(few) < 35
    assert sum(many) > 95


def test_a_candidate_is_compared_with_the_default_on_the_same_units() -> None:
    """Units differ by 1 and the candidates by 0.1: without pairs nothing could be told of 30 of them."""
    assert race(noisy([0.0, 0.1], 0, units=15, spread=0.02), 2, 2).chosen == 1


def test_a_candidate_whose_fits_differ_more_than_its_gain_names_no_winner() -> None:
    def ask(candidate: int, block: int) -> np.ndarray:
        drawn = np.random.default_rng([candidate, block])
        return drawn.normal(0, 0.01, 50) - (0.5 if block == 0 else -0.3) * candidate

    (standing,) = race(ask, 2, 2).rounds
    assert standing.gain > 30 * 0.01 / 10
    assert race(ask, 2, 2).chosen == 0


def test_the_weaker_half_leaves_after_each_block_and_the_objective_is_asked_no_more_than_said() -> None:
    asked: list[tuple[int, int]] = []

    def ask(candidate: int, block: int) -> np.ndarray:
        asked.append((candidate, block))
        return np.array([1.0, 1.1, 0.9]) - 0.01 * candidate

    found = race(ask, 7, 3)
    assert [c for c, block in asked if block == 0] == [0, 1, 2, 3, 4, 5, 6]
    assert [c for c, block in asked if block == 1] == [0, 6, 5, 4]
    assert [c for c, block in asked if block == 2] == [0, 6, 5]
    assert len(asked) == found.evaluations == evaluations(7, 3)
    assert [r.blocks for r in found.rounds] == [1, 1, 1, 2, 3, 3]


def test_a_race_ends_when_none_is_ahead_of_the_default() -> None:
    found = race(lambda candidate, block: np.array([1.0, 2.0]) + candidate, 5, 4)
    assert (found.chosen, found.evaluations) == (0, 5)


def test_a_candidate_whose_loss_is_no_number_loses() -> None:
    def ask(candidate: int, block: int) -> np.ndarray:
        return np.full(20, np.nan) if candidate == 1 else np.linspace(0, 1, 20) - candidate

    assert race(ask, 3, 2).chosen == 2


def test_without_rivals_nothing_is_asked() -> None:
    assert race(lambda candidate, block: pytest.fail("asked"), 1, 3).evaluations == 0
    assert evaluations(1, 3) == 0


def test_a_star_changes_one_value_at_a_time_the_most_promising_first() -> None:
    assert star({"lr": (1.0, 2.0), "decay": (0.5,)}) == [{}, {"lr": 1.0}, {"decay": 0.5}, {"lr": 2.0}]
    assert star({}) == [{}]


def test_a_race_needs_candidates_and_blocks() -> None:
    with pytest.raises(ValueError, match="needs candidates and blocks"):
        race(lambda candidate, block: np.zeros(1), 2, 0)
