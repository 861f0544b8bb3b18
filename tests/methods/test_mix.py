from __future__ import annotations

import numpy as np
import pytest

from fallow.methods import estimate_mix
from fallow.methods.mix import anchor_shares
from fallow.models.linear import LinearHead, fit_logistic


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


def heads(seed: int = 0) -> tuple[LinearHead, LinearHead, np.ndarray]:
    """Return a head that names class 0 too often, one that does not, and a pool."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(6, 4)).astype(np.float32)
    pool = rng.normal(size=(400, 6)).astype(np.float32)
    drifted = np.array([2.0, 0.0, 0.0, -1.0], np.float32)
    return LinearHead(weight, drifted), LinearHead(weight, np.zeros(4, np.float32)), pool


def test_few_labels_draw_the_shares_back_and_many_leave_them() -> None:
    head, probe, pool = heads()
    before = probe.probs(pool).mean(0)
    left = []
    for per_class in (1, 2, 5, 20, 1000):
        made, drift = anchor_shares(head, probe, pool, per_class, 2.5)
        np.testing.assert_array_equal(made.weight, head.weight)
        left.append(np.abs(made.probs(pool).mean(0) - before).sum())
        assert drift == pytest.approx(0.5 * np.abs(head.probs(pool).mean(0) - before).sum(), abs=1e-6)
    assert left == sorted(left)
    assert left[0] < 0.5 * left[-1]
    np.testing.assert_allclose(made.bias, head.bias, atol=1e-5)


def test_the_bias_moves_by_the_log_of_target_over_mean() -> None:
    head, probe, pool = heads()
    made, _ = anchor_shares(head, probe, pool, 2.5, 2.5)  # half and half
    own, before = head.probs(pool).mean(0), probe.probs(pool).mean(0)
    np.testing.assert_allclose(made.bias - head.bias, np.log((own + before) / 2 / own), atol=1e-5)


def test_a_head_that_has_not_drifted_stays_and_so_does_one_without_a_pool() -> None:
    head, probe, pool = heads()
    same, drift = anchor_shares(probe, probe, pool, 1, 2.5)
    np.testing.assert_allclose(same.bias, probe.bias, atol=1e-6)
    assert drift == 0
    alone, drift = anchor_shares(head, probe, pool[:0], 1, 2.5)
    np.testing.assert_array_equal(alone.bias, head.bias)
    assert drift == 0


def test_a_class_that_the_head_never_names_is_found_again_and_stays_finite() -> None:
    x = np.random.default_rng(3).normal(size=(60, 5)).astype(np.float32)
    probe = fit_logistic(x[:3], np.arange(3), n_classes=3)
    lost = LinearHead(probe.weight, np.array([0.0, 0.0, -300.0], np.float32))
    made, _ = anchor_shares(lost, probe, x, 1, 2.5)
    assert np.isfinite(made.bias).all()
    assert made.bias[2] > lost.bias[2] + 5
