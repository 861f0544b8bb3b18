"""The nearest of many vectors, and how near a match is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fallow.errors import RunError
from fallow.study.gallery import nearest as module
from fallow.study.gallery.calibrate import Calibration, calibrate, thresholds
from fallow.study.gallery.job import spread_out
from fallow.study.gallery.nearest import INDEX, nearest, through_index, write_index


def vectors(n: int, dim: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def plain(queries: np.ndarray, bank: np.ndarray, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """Look at each pair by itself."""
    rows, far = [], []
    for q in queries:
        d = [1 - float(q @ b) / float(np.linalg.norm(q) * np.linalg.norm(b)) for b in bank]
        order = sorted(range(len(bank)), key=lambda i: d[i])[:k]
        rows.append(order)
        far.append([d[i] for i in order])
    return rows, far


@pytest.mark.parametrize("blocks", [(3, 2), (1000, 1000)])
def test_the_nearest_are_those_of_looking_at_every_pair(
    blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS", blocks[0])
    monkeypatch.setattr(module, "_QUERIES", blocks[1])
    queries, bank = vectors(5, seed=1), vectors(20)
    rows, far = nearest(queries, bank, 4)
    expected, distances = plain(queries, bank, 4)
    assert rows.tolist() == expected
    np.testing.assert_allclose(far, distances, atol=1e-6)


def test_an_image_is_no_neighbor_of_its_own_and_fewer_than_asked_are_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ROWS", 3)
    bank = vectors(8)
    rows, _ = nearest(bank, bank, 50, own=np.arange(8))
    assert rows.shape == (8, 7)
    for own, others in enumerate(rows.tolist()):
        assert sorted([own, *others]) == list(range(8))


def test_equal_distances_come_in_the_order_of_the_rows() -> None:
    bank = np.ones((5, 3), np.float32)
    assert nearest(bank[:1], bank, 3)[0].tolist() == [[0, 1, 2]]


def test_an_index_finds_what_the_exact_search_finds(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    bank = vectors(500, dim=16)
    write_index(tmp_path / INDEX, bank)
    rows, far = through_index(tmp_path / INDEX, bank[:40] + 0.01, 5)
    expected, distances = nearest(bank[:40] + 0.01, bank, 5)
    assert (rows[:, 0] == expected[:, 0]).mean() > 0.95
    assert (rows == expected).mean() > 0.95
    same = rows == expected
    np.testing.assert_allclose(far[same], distances[same], atol=1e-5)


def test_a_file_that_is_no_index_is_told(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    (tmp_path / INDEX).write_bytes(b"nothing of the kind")
    with pytest.raises(RunError, match="embed the images again with --index"):
        through_index(tmp_path / INDEX, vectors(1), 1)


def test_thresholds_are_those_of_trying_every_distance() -> None:
    rng = np.random.default_rng(3)
    distance = np.round(rng.random(60), 2)  # with ties
    same = rng.random(60) > distance
    best, at = thresholds(distance, same)

    def told(t: float) -> tuple[float, float]:
        within = distance <= t
        return float(same[within].mean()), float((same & within).sum() / len(same))

    tried = {t: told(t) for t in np.unique(distance).tolist()}
    f1 = {t: 2 * p * r / (p + r) if p + r else 0.0 for t, (p, r) in tried.items()}
    assert best.f1 == pytest.approx(max(f1.values()))
    assert (best.precision, best.recall) == pytest.approx(tried[best.distance])
    for target, found in at.items():
        reached = [t for t, (p, _) in tried.items() if p >= target]
        assert found.distance == max(reached)
    assert all(target in at or not [t for t, (p, _) in tried.items() if p >= target] for target in (0.8, 0.9))


def test_groups_that_lie_apart_are_told_apart_and_strangers_match_nothing() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(3, 12, dtype=np.float32)
    x = np.concatenate([c + 0.05 * rng.normal(size=(20, 12)) for c in centers]).astype(np.float32)
    labels = np.repeat(np.array(["a", "b", "c"]), 20)
    found = calibrate(x, labels, seed=0)
    assert found.asked == 60
    assert found.usually is not None
    assert found.usually.precision == 1.0
    stranger = np.eye(1, 12, k=8, dtype=np.float32)
    assert nearest(stranger, x, 1)[1][0, 0] > found.usually.distance
    assert Calibration.from_json(found.to_json()) == found


def test_without_labels_only_what_is_usual_is_known() -> None:
    found = calibrate(vectors(30), np.array([""] * 30), seed=0)
    assert found.best is None
    assert found.at == {}
    assert found.usual is not None


def test_rows_of_the_page_lie_apart_and_do_not_repeat() -> None:
    groups = np.repeat(np.eye(6, dtype=np.float32), 50, axis=0)
    chosen = spread_out(groups, 10, seed=1)
    assert len({int(row) // 50 for row in chosen}) == 6
    assert len(set(chosen.tolist())) == len(chosen)
