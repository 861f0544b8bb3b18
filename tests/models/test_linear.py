from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fallow.errors import DataError
from fallow.models.linear import LinearHead, fit_logistic, fit_temperature, one_hot, softmax

RNG = np.random.default_rng(1)
CENTERS = RNG.normal(size=(4, 6)) * 1.5


def sample(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    y = RNG.integers(0, 4, n)
    return (CENTERS[y] + RNG.normal(size=(n, 6))).astype(np.float32), y


def test_agrees_with_scikit_learn():
    x, y = sample()
    weight = RNG.uniform(0.1, 2.0, len(y))
    ours = fit_logistic(x, y, sample_weight=weight, strength=2.0, max_steps=500)
    theirs = LogisticRegression(C=2.0, max_iter=2000, tol=1e-8).fit(x, y, weight)
    np.testing.assert_allclose(ours.probs(x), theirs.predict_proba(x), atol=5e-3)


def test_soft_targets_equal_weighted_copies_of_hard_ones():
    x, _ = sample(40)
    soft = RNG.dirichlet(np.ones(3), 40).astype(np.float32)
    direct = fit_logistic(x, soft, strength=5.0, max_steps=500)
    copies = fit_logistic(
        np.repeat(x, 3, axis=0),
        np.tile(np.arange(3), 40),
        sample_weight=soft.ravel(),
        strength=5.0,
        max_steps=500,
    )
    np.testing.assert_allclose(direct.probs(x), copies.probs(x), atol=5e-3)


def test_few_rows_in_many_dimensions_lose_nothing():
    x = RNG.normal(size=(8, 300)).astype(np.float32)
    y = np.arange(8) % 3
    ours = fit_logistic(x, y, strength=1.0, max_steps=500)
    theirs = LogisticRegression(C=1.0, max_iter=2000, tol=1e-9).fit(x, y)
    np.testing.assert_allclose(ours.probs(x), theirs.predict_proba(x), atol=5e-3)


def test_binary_and_missing_last_class():
    x, y = sample()
    head = fit_logistic(x, (y > 1).astype(int))
    assert head.n_classes == 2
    assert fit_logistic(x, y, n_classes=7).probs(x).shape == (len(y), 7)


def test_rows_of_weight_zero_do_not_count():
    x, y = sample()
    weight = (np.arange(len(y)) < 60).astype(np.float32)
    masked = fit_logistic(x, y, sample_weight=weight, max_steps=300)
    alone = fit_logistic(x[:60], y[:60], n_classes=4, max_steps=300)
    np.testing.assert_allclose(masked.probs(x), alone.probs(x), atol=1e-4)


def test_warm_start_arrives_at_the_same_place_sooner():
    x, y = sample()
    cold = fit_logistic(x, y, max_steps=500)
    warm = fit_logistic(x, y, start=cold, max_steps=5)
    np.testing.assert_allclose(warm.probs(x), cold.probs(x), atol=5e-3)


def test_deterministic_and_invariant_to_row_order():
    x, y = sample()
    order = RNG.permutation(len(y))
    first, again = fit_logistic(x, y), fit_logistic(x, y)
    np.testing.assert_array_equal(first.weight, again.weight)
    np.testing.assert_allclose(fit_logistic(x[order], y[order]).probs(x), first.probs(x), atol=5e-3)


def test_temperature_recovers_overconfidence():
    x, y = sample(4000)
    honest = fit_logistic(x[:2000], y[:2000], strength=100.0)
    loud = LinearHead(honest.weight * 4, honest.bias * 4)
    assert fit_temperature(loud.logits(x[2000:]), y[2000:]) == pytest.approx(4.0, rel=0.2)
    assert fit_temperature(loud.logits(x[:0]), y[:0]) == 1.0
    assert abs(np.log(fit_temperature(loud.logits(x[:2]), y[:2]))) < np.log(2)


def test_head_state_and_rows_sum_to_one():
    x, y = sample()
    head = replace(fit_logistic(x, y), temperature=2.5)
    back = LinearHead.from_state(head.state())
    np.testing.assert_array_equal(back.probs(x), head.probs(x))
    np.testing.assert_allclose(head.probs(x).sum(axis=1), 1.0, atol=1e-5)
    assert np.isfinite(softmax(np.array([[1e30, -1e30]]))).all()


def test_errors():
    x, y = sample(5)
    with pytest.raises(DataError, match="positive weight"):
        fit_logistic(x, y, sample_weight=np.zeros(5))
    with pytest.raises(DataError, match="as many"):
        fit_logistic(x, one_hot(y, 4)[:3])
