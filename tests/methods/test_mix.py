from __future__ import annotations

import numpy as np
import pytest

from fallow.methods import estimate_mix


def test_with_many_labels_the_estimate_follows_the_pool() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.75, 0.2, 0.05])
    y = rng.choice(3, size=20_000, p=truth)
    probs = np.full((len(y), 3), 0.002) + 0.994 * np.eye(3)[y]
    np.testing.assert_allclose(estimate_mix(probs, np.full(3, 200)), truth, atol=0.015)


def test_few_labels_pull_to_their_own_shares_and_no_class_vanishes() -> None:
    certain = np.tile([1.0, 0.0, 0.0], (500, 1))
    largest = [estimate_mix(certain, np.full(3, k))[0] for k in (1, 2, 5, 20, 100)]
    assert largest == sorted(largest)
    assert largest[1] == pytest.approx(0.5 + 0.5 / 3)  # two labels a class: half the mean, half the labels
    assert all(estimate_mix(certain, np.full(3, k)).min() > 0 for k in (1, 20, 1000))


def test_labels_drawn_like_the_pool_are_not_pulled_away_from_it() -> None:
    truth = np.array([0.6, 0.3, 0.1])
    probs = np.tile(truth, (100, 1))
    np.testing.assert_allclose(estimate_mix(probs, np.array([12, 6, 2])), truth)


def test_an_empty_pool_has_the_shares_of_the_labels_and_all_sum_to_one() -> None:
    np.testing.assert_allclose(estimate_mix(np.zeros((0, 4)), np.array([1, 1, 1, 1])), 0.25)
    probs = np.random.default_rng(1).dirichlet(np.ones(6), 50)
    assert estimate_mix(probs, np.full(6, 3)).sum() == pytest.approx(1)
