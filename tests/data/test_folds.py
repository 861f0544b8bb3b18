from __future__ import annotations

import numpy as np
import pytest

from fallow.data import assign_folds, cache_dir, default_folds


def test_default_folds() -> None:
    assert default_folds([]) == 0
    assert default_folds([0, 0, 1]) == 0
    assert default_folds([0, 0, 1, 1, 1]) == 2
    assert default_folds([0] * 9 + [1] * 7) == 5


def test_stratified_and_balanced() -> None:
    labels = [0] * 20 + [1] * 10 + [2] * 5
    folds = assign_folds(labels, None, 5, 3, seed=1)
    assert folds.shape == (3, 35)
    for row in folds:
        for c, n in ((0, 4), (1, 2), (2, 1)):
            assert np.bincount(row[np.array(labels) == c], minlength=5).tolist() == [n] * 5
    assert not np.array_equal(folds[0], folds[1])


def test_fold_sizes_stay_even_with_many_small_classes() -> None:
    labels = np.repeat(np.arange(30), 2)
    for row in assign_folds(labels.tolist(), None, 5, 4, seed=0):
        assert np.ptp(np.bincount(row, minlength=5)) <= 2


def test_deterministic_and_independent_of_repeats() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 50).tolist()
    np.testing.assert_array_equal(
        assign_folds(labels, None, 5, 2, 7), assign_folds(labels, None, 5, 6, 7)[:2]
    )
    assert not np.array_equal(assign_folds(labels, None, 5, 1, 7), assign_folds(labels, None, 5, 1, 8))


def test_groups_are_never_parted() -> None:
    rng = np.random.default_rng(3)
    labels, groups = rng.integers(0, 3, 200), rng.integers(0, 40, 200).astype(str)
    for row in assign_folds(labels.tolist(), groups.tolist(), 4, 3, 0):
        assert all(len(set(row[groups == g])) == 1 for g in set(groups))


@pytest.mark.parametrize("seed", range(20))
def test_every_class_stays_in_every_training_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 40))
    labels, groups = rng.integers(0, 5, n), rng.integers(0, max(2, n // 2), n).astype(str)
    for row in assign_folds(labels.tolist(), groups.tolist(), int(rng.integers(2, 6)), 4, seed):
        for fold in range(row.max() + 1):
            assert set(labels[row != fold]) == set(labels)


def test_a_class_with_one_group_is_never_held_out() -> None:
    labels = [0, 0, 0, 1, 1, 2]
    groups = ["a", "b", "c", "twins", "twins", "d"]
    for row in assign_folds(labels, groups, 3, 5, 0):
        assert row[3:].tolist() == [-1, -1, -1]
        assert sorted(row[:3]) == [0, 1, 2]


def test_nothing_held_out() -> None:
    assert (assign_folds([0, 1], None, 0, 2, 0) == -1).all()
    assert assign_folds([], None, 5, 2, 0).shape == (2, 0)
    with pytest.raises(ValueError, match="2 groups for 3 labels"):
        assign_folds([0, 1, 1], ["a", "b"], 2, 1, 0)


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("FALLOW_CACHE")
    assert cache_dir().name == "fallow"
