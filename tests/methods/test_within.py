"""A metric in which images of one class vary alike in all directions."""

from __future__ import annotations

import numpy as np

from fallow.methods import find_neighbors
from fallow.methods.within import SHRINK, whiten_within


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that differ in one direction a little, and vary in others much."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 400)
    x = rng.normal(0, [4.0, 0.3, 4.0, 4.0], (400, 4))
    x[:, 1] += np.where(y == 1, 1.0, -1.0)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def same(vectors: np.ndarray, y: np.ndarray) -> float:
    return float((y[find_neighbors(vectors, 5).index] == y[:, None]).mean())


def test_neighbors_are_more_often_of_one_class_also_of_rows_that_taught_nothing() -> None:
    x, y = world()
    rows = np.arange(200)
    found = whiten_within(x, rows, y[rows], np.ones(200))
    assert same(found, y) > same(x, y) + 0.05
    assert same(found[200:], y[200:]) > same(x[200:], y[200:]) + 0.05
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_the_spread_within_classes_is_that_of_a_direct_computation() -> None:
    x, y = world(1)
    weight = np.random.default_rng(0).uniform(0.5, 1, len(x))
    means = np.stack([np.average(x[y == c], axis=0, weights=weight[y == c]) for c in (0, 1)])
    spread = np.cov((x - means[y]).T, aweights=weight, ddof=0)
    spread += SHRINK * np.trace(spread) / 4 * np.eye(4)
    direct = (x - means.mean(0)) @ np.linalg.cholesky(np.linalg.inv(spread))
    found = whiten_within(x, np.arange(len(x)), y, weight)
    direct /= np.linalg.norm(direct, axis=1, keepdims=True)
    np.testing.assert_allclose(
        found @ found.T, direct @ direct.T, atol=2e-3
    )  # the same angles, whichever way it is turned


def test_a_row_that_counts_little_changes_little_and_one_row_a_class_nothing_breaks() -> None:
    x, y = world(2)
    rows = np.arange(100)
    plain = whiten_within(x, rows, y[rows], np.ones(100), 0.1)
    wrong = whiten_within(
        x, np.arange(101), np.append(y[rows], 1 - y[100]), np.append(np.ones(100), 1e-6), 0.1
    )
    np.testing.assert_allclose(plain, wrong, atol=1e-3)
    assert np.isfinite(whiten_within(x, np.array([0, 1]), np.array([0, 1]), np.ones(2))).all()
