import numpy as np
import pytest

from fallow.methods.neighbors import find_neighbors
from fallow.models.feature_map import unit_length

RNG = np.random.default_rng(2)


def vectors(n: int = 150, d: int = 8) -> np.ndarray:
    return unit_length(RNG.normal(size=(n, d)))


def test_exact_lists_agree_with_sorting_everything():
    x = vectors()
    found = find_neighbors(x, 7)
    products = x @ x.T
    np.fill_diagonal(products, -2)
    np.testing.assert_array_equal(found.index, np.argsort(-products, axis=1)[:, :7])
    np.testing.assert_allclose(found.similarity, np.sort(products, axis=1)[:, ::-1][:, :7], atol=1e-6)


def test_filtered_lists_equal_recomputed_ones():
    x = vectors()
    rows = RNG.random(150) > 0.1
    kept = find_neighbors(x, 30).keep(rows, 7)
    again = find_neighbors(x[rows], 7)
    np.testing.assert_array_equal(kept.index, again.index)
    np.testing.assert_allclose(kept.similarity, again.similarity, atol=1e-6)


def test_a_row_that_loses_too_many_has_fewer_but_no_wrong_neighbors():
    x = vectors(30)
    rows = np.arange(30) < 6
    kept = find_neighbors(x, 5).keep(rows, 5)
    assert kept.index.max() < 6
    own = kept.index == np.arange(6)[:, None]
    assert (kept.similarity[own] == 0).all()
    truth = x[:6] @ x[:6].T
    row = np.repeat(np.arange(6), 5).reshape(6, 5)
    np.testing.assert_allclose(kept.similarity[~own], truth[row, kept.index][~own], atol=1e-6)


def test_blocks_do_not_change_anything(monkeypatch):
    x = vectors()
    whole = find_neighbors(x, 5)
    monkeypatch.setattr("fallow.methods.neighbors._BLOCK_BYTES", 4 * 150 * 7)
    np.testing.assert_array_equal(find_neighbors(x, 5).index, whole.index)


def test_partitioned_search_finds_nearly_all():
    centers = RNG.normal(size=(30, 16)) * 2
    x = unit_length(centers[RNG.integers(0, 30, 3000)] + RNG.normal(size=(3000, 16)))
    exact, fast = find_neighbors(x, 10), find_neighbors(x, 10, exact=False)
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact.index, fast.index, strict=True)])
    assert recall > 0.9
    np.testing.assert_array_equal(find_neighbors(x, 10, exact=False).index, fast.index)
    assert (fast.index != np.arange(3000)[:, None]).all()


@pytest.mark.parametrize("exact", [True, False])
def test_duplicates_zeros_and_tiny_sets(exact):
    x = np.zeros((12, 4), np.float32)
    x[:6, 0] = 1
    found = find_neighbors(x, 5, exact=exact)
    assert np.isfinite(found.similarity).all()
    assert set(found.index[0]) <= set(range(12)) - {0}
    assert find_neighbors(x[:1], 5).index.shape == (1, 1)
    assert find_neighbors(x[:3], 5).index.shape == (3, 2)
