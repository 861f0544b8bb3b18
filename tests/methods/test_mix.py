import numpy as np

from fallow.methods.mix import estimate_mix

RNG = np.random.default_rng(4)


def skewed_posteriors(n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Exact posteriors of a balanced model for two normals, on data that is 90 : 10."""
    y = (RNG.random(n) < 0.1).astype(int)
    x = RNG.normal(size=n) + 2.0 * y
    odds = np.exp(2.0 * x - 2.0)
    return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1), np.bincount(y) / n


def test_em_recovers_the_proportions_that_averaging_misses():
    probs, truth = skewed_posteriors()
    assert abs(probs.mean(axis=0) - truth).max() > 0.05
    np.testing.assert_allclose(estimate_mix(probs), truth, atol=0.01)


def test_source_mix_is_taken_into_account():
    probs, truth = skewed_posteriors()
    source = np.array([0.7, 0.3])
    biased = probs * source
    biased /= biased.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(estimate_mix(biased, source), truth, atol=0.01)


def test_small_pools_shrink_to_equal_and_no_class_vanishes():
    certain = np.tile([1.0, 0.0, 0.0], (4, 1))
    mix = estimate_mix(certain)
    np.testing.assert_allclose(mix, [0.6, 0.2, 0.2])
    np.testing.assert_allclose(estimate_mix(certain[:0]), 1 / 3)
    assert estimate_mix(np.tile([1.0, 0.0, 0.0], (5000, 1))).min() > 0
