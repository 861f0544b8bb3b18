from dataclasses import replace

import numpy as np
import pytest

from fallow.errors import DataError
from fallow.methods import propagation
from fallow.methods.propagation import (
    PropagateOptions,
    certainty,
    knows_enough,
    map_features,
    prepare_inputs,
    propagate,
)

RNG = np.random.default_rng(5)


def clusters(
    n: int, classes: int = 4, d: int = 20, noise: float = 0.5, seed: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, d))
    y = np.arange(n) % classes
    return (centers[y] + noise * rng.normal(size=(n, d))).astype(np.float32), y


def learn(x: np.ndarray, labels: np.ndarray, classes: int, **kw):
    inputs = prepare_inputs(x, labels < 0, **kw)
    return inputs, propagate(inputs, labels, classes)


def hide(y: np.ndarray, per_class: int, classes: int) -> np.ndarray:
    labels = np.full(len(y), -1)
    for c in range(classes):
        labels[np.flatnonzero(y == c)[:per_class]] = c
    return labels


def finite(done) -> bool:
    arrays = (done.probs, done.weights, done.mix, done.head.weight, done.head.bias)
    return all(np.isfinite(a).all() for a in arrays)


def test_beats_the_labels_alone_on_clusters():
    x, y = clusters(600, noise=1.2)
    labels = hide(y, 1, 4)
    inputs, done = learn(x, labels, 4)
    from fallow.models.linear import fit_logistic

    test, truth = clusters(400, noise=1.2, seed=6)
    mapped = inputs.feature_map.transform(test)
    known = labels >= 0
    alone = fit_logistic(inputs.features[known], labels[known])
    before = (alone.probs(mapped).argmax(1) == truth).mean()
    after = (done.head.probs(mapped).argmax(1) == truth).mean()
    assert after > before + 0.03
    assert after > 0.9


def test_shapes_and_ranges():
    x, y = clusters(200)
    labels = hide(y, 2, 4)
    _, done = learn(x, labels, 4)
    assert done.probs.shape == (192, 4)
    assert done.weights.shape == (192,)
    np.testing.assert_allclose(done.probs.sum(axis=1), 1, atol=1e-5)
    assert 0 <= done.weights.min() <= done.weights.max() <= 1
    assert done.mix.sum() == pytest.approx(1)
    assert finite(done)


def test_deterministic_and_independent_of_row_order():
    x, y = clusters(200)
    labels = hide(y, 2, 4)
    _, first = learn(x, labels, 4)
    _, again = learn(x, labels, 4)
    np.testing.assert_array_equal(first.probs, again.probs)
    order = RNG.permutation(200)
    _, shuffled = learn(x[order], labels[order], 4)
    back = np.empty((200, 4), np.float32)
    back[order[labels[order] < 0]] = shuffled.probs
    np.testing.assert_allclose(back[labels < 0], first.probs, atol=2e-2)


def test_filtered_inputs_equal_prepared_anew():
    """Dropping held-out labeled rows from shared inputs changes nothing: maps saw the pool only."""
    x, y = clusters(600)
    labels = hide(y, 5, 4)
    options = PropagateOptions()
    shared = prepare_inputs(x, labels < 0, options)
    assert shared.pool_only
    rows = np.ones(600, bool)
    rows[np.flatnonzero(labels >= 0)[::3]] = False
    filtered = propagate(shared.keep(rows, options.neighbors), labels[rows], 4)
    anew = propagate(prepare_inputs(x[rows], labels[rows] < 0, options), labels[rows], 4)
    np.testing.assert_allclose(filtered.probs, anew.probs, atol=1e-3)


def test_skewed_pool_is_seen_in_the_mix():
    x, y = clusters(1200)
    keep = (y != 0) | (np.arange(1200) < 80)
    labels = hide(y[keep], 3, 4)
    _, done = learn(x[keep], labels, 4)
    truth = np.bincount(y[keep][labels < 0], minlength=4) / (labels < 0).sum()
    # Four labels a class: a third of the way back to the labels' own shares, which are equal.
    assert np.abs(done.mix - truth).sum() < 0.5 * np.abs(0.25 - truth).sum()
    assert done.mix.argmin() == 0


def test_one_label_a_class_in_a_skewed_pool_keeps_its_small_classes():
    """Self-training lets large classes swallow small ones; the labels-only head's class shares hold against it."""
    gained = []
    for seed in range(4):
        x, y = clusters(600, noise=1.6, seed=20 + seed)
        rows = (y < 2) | (np.arange(600) < 40)
        test, truth = clusters(400, noise=1.6, seed=40 + seed)
        found = []
        for anchor in (1e-6, PropagateOptions().anchor_labels):
            options = PropagateOptions(anchor_labels=anchor)
            labels = hide(y[rows], 1, 4)
            inputs = prepare_inputs(x[rows], labels < 0, options)
            done = propagate(inputs, labels, 4, options)
            said = done.head.probs(inputs.feature_map.transform(test)).argmax(1)
            found.append((said == truth).mean())
        assert done.diagnostics["share_drift"] > 0.1
        gained.append(found[1] - found[0])
    assert np.mean(gained) > 0.02
    assert min(gained) > -0.02


@pytest.mark.parametrize(
    ("n", "classes", "per_class"),
    [(7, 2, 1), (40, 2, 15), (11, 3, 2), (300, 100, 1), (60, 2, 1)],
    ids=["five-in-pool", "more-labels-than-pool", "three-classes", "hundred-classes", "binary"],
)
def test_odd_sizes(n, classes, per_class):
    x, y = clusters(n, classes)
    _, done = learn(x, hide(y, per_class, classes), classes)
    assert finite(done)
    assert done.head.n_classes == classes


@pytest.mark.parametrize("kind", ["duplicates", "zeros", "constant", "far-away"])
def test_degenerate_features(kind):
    x, y = clusters(80)
    if kind == "duplicates":
        x = x[y]
    elif kind == "zeros":
        x[::3] = 0
    elif kind == "constant":
        x[:] = 1
    else:
        x[5] = 1e6
    _, done = learn(x, hide(y, 1, 4), 4)
    assert finite(done)


def test_no_pool_gives_the_labels_back():
    x, y = clusters(40)
    inputs, done = learn(x, y, 4)
    assert done.probs.shape == (0, 4)
    assert finite(done)
    assert (done.head.probs(inputs.features).argmax(1) == y).all()


def test_several_embeddings_share_the_graph():
    x, y = clusters(200)
    other, _ = clusters(200, d=9, noise=0.3)
    labels = hide(y, 1, 4)
    inputs = prepare_inputs([x, other], labels < 0)
    assert len(inputs.neighbors) == 2
    assert finite(propagate(inputs, labels, 4, replace(PropagateOptions(), rounds=1)))


@pytest.mark.parametrize("labeled", [20, 450], ids=["pool-knows-enough", "labels-take-part"])
def test_an_embedding_in_parts_is_mapped_as_a_whole_one_is(labeled, monkeypatch):
    monkeypatch.setattr(propagation, "_BLOCK", 64)  # blocks that begin in one part and end in the other
    x, _ = clusters(800)
    pool = np.arange(800) >= labeled
    assert knows_enough(pool) == (labeled == 20)
    for options in (PropagateOptions(), PropagateOptions(components=7)):
        whole, features = map_features(x, pool, options)
        found, again = map_features((x[:labeled], x[labeled:]), pool, options)
        np.testing.assert_array_equal(found.matrix, whole.matrix)
        np.testing.assert_allclose(again, features, atol=1e-6)
        np.testing.assert_allclose(features, whole.transform(x), atol=1e-6)


def test_certainty_bounds():
    rows = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    np.testing.assert_allclose(certainty(rows), [1, 0], atol=1e-5)


def test_errors():
    x, y = clusters(40)
    inputs = prepare_inputs(x, np.ones(40, bool))
    with pytest.raises(DataError, match="Class 3 has no labeled image"):
        propagate(inputs, np.where(y == 3, -1, y), 4)
    with pytest.raises(DataError, match="as many"):
        propagate(inputs, y[:5], 4)
