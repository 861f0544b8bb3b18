import numpy as np

from fallow.methods.neighbors import Neighbors, find_neighbors
from fallow.methods.spread import affinity, clamp, normalize_rows, spread, spread_labels
from fallow.models.feature_map import unit_length

RNG = np.random.default_rng(3)
EQUAL = np.full(3, 1 / 3)


def blobs(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 3
    return unit_length(np.eye(3)[y] * 3 + RNG.normal(size=(n, 3)) * 0.5), y


def labeled(y: np.ndarray, per_class: int = 1) -> np.ndarray:
    labels = np.full(len(y), -1)
    for c in range(3):
        labels[np.flatnonzero(y == c)[:per_class]] = c
    return labels


def test_graph_is_symmetric_and_normalized():
    graph = affinity(find_neighbors(blobs()[0], 8)).toarray()
    np.testing.assert_allclose(graph, graph.T, atol=1e-6)
    values = np.linalg.eigvalsh(graph)
    assert values.max() <= 1 + 1e-5
    assert values.min() >= -1 - 1e-5


def test_graph_follows_its_formula():
    """The edge weights written out one by one from the docstring."""
    lists = find_neighbors(blobs(30)[0], 4)
    typical = np.median(1 - lists.similarity[lists.similarity > 0])
    weight = np.zeros((30, 30))
    for i in range(30):
        for j, cosine in zip(lists.index[i], lists.similarity[i], strict=True):
            if cosine > 0:
                weight[i, j] = np.exp(-4.0 * ((1 - cosine) / typical - 1))
    weight = (weight + weight.T) / 2
    degree = weight.sum(axis=1)
    expected = weight / np.sqrt(degree[:, None] * degree[None, :])
    np.testing.assert_allclose(affinity(lists, 4.0).toarray(), expected, atol=1e-5)


def test_edges_do_not_depend_on_the_scale_of_distances():
    lists = find_neighbors(blobs(30)[0], 4)
    closer = Neighbors(lists.index, 1 - (1 - lists.similarity) / 10)
    np.testing.assert_allclose(affinity(closer).toarray(), affinity(lists).toarray(), rtol=1e-3, atol=1e-5)


def test_spread_solves_zhou_et_al_equation_4():
    graph = affinity(find_neighbors(blobs()[0], 8))
    sources = RNG.random((90, 100)).astype(np.float32)
    exact = np.linalg.solve(np.eye(90) - 0.98 * graph.toarray(), sources)
    np.testing.assert_allclose(spread(graph, sources, 0.98, tol=1e-5), exact, rtol=1e-3, atol=1e-3)


def test_labels_spread_row_stochastic_and_clamped():
    x, y = blobs()
    labels = labeled(y)
    probs = spread_labels(affinity(find_neighbors(x, 8)), labels, 3, 0.98, EQUAL)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(probs[labels >= 0].argmax(axis=1), labels[labels >= 0])
    assert probs[labels >= 0].max(axis=1).min() == 1.0
    assert (probs.argmax(axis=1) == y).mean() > 0.9


def test_order_of_rows_does_not_matter():
    x, y = blobs()
    order = RNG.permutation(90)
    labels = labeled(y, 2)
    direct = spread_labels(affinity(find_neighbors(x, 8)), labels, 3, 0.98, EQUAL)
    shuffled = spread_labels(affinity(find_neighbors(x[order], 8)), labels[order], 3, 0.98, EQUAL)
    np.testing.assert_allclose(shuffled, direct[order], atol=2e-3)


def test_rows_out_of_reach_get_the_mix():
    x = np.concatenate([blobs()[0], np.zeros((2, 3), np.float32)])
    labels = np.concatenate([labeled(blobs()[1]), [-1, -1]])
    mix = np.array([0.5, 0.3, 0.2])
    probs = spread_labels(affinity(find_neighbors(x, 8)), labels, 3, 0.98, mix)
    np.testing.assert_allclose(probs[-1], mix, atol=1e-6)


def test_several_lists_are_averaged():
    x, _ = blobs()
    one = find_neighbors(x, 8)
    np.testing.assert_allclose(affinity([one, one]).toarray(), affinity(one).toarray(), atol=1e-6)


def test_normalize_and_clamp():
    rows = normalize_rows(np.array([[1.0, 3.0], [0.0, 0.0]], np.float32), np.array([0.6, 0.4]))
    np.testing.assert_allclose(rows, [[0.25, 0.75], [0.6, 0.4]], atol=1e-6)
    np.testing.assert_array_equal(clamp(rows, np.array([0, -1]))[0], [1, 0])
