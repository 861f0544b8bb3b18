from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fallow.report import MapPoint, choose_map_points, map_layout, thumbnail
from fallow.report.cluster_map import cluster_map


def blobs(n: int, clusters: int = 4, dims: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % clusters
    return (rng.normal(0, 1, (clusters, dims))[y] + rng.normal(0, 0.2, (n, dims))).astype(np.float32), y


def neighbors_agree(places: np.ndarray, y: np.ndarray) -> float:
    far = ((places[:, None] - places[None]) ** 2).sum(-1)
    np.fill_diagonal(far, np.inf)
    return float((y[far.argmin(1)] == y).mean())


def test_neighbors_stay_neighbors_and_the_picture_repeats() -> None:
    z, y = blobs(160)
    places = map_layout(z, seed=1)
    assert places.shape == (160, 2)
    assert places.dtype == np.float32
    assert float(np.abs(places).max()) == pytest.approx(1)
    assert neighbors_agree(places, y) > 0.97
    np.testing.assert_array_equal(places, map_layout(z, seed=1))


def test_rows_beyond_the_limit_lie_with_their_neighbors() -> None:
    z, y = blobs(200)
    places = map_layout(z, max_points=80)
    assert places.shape == (200, 2)
    assert neighbors_agree(places, y) > 0.95


@pytest.mark.parametrize("n", [0, 1, 2, 3, 9, 10, 12])
@pytest.mark.parametrize("dims", [1, 2, 70])
def test_few_points(n: int, dims: int) -> None:
    places = map_layout(np.random.default_rng(0).normal(size=(n, dims)))
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()


def test_equal_zero_and_broken_vectors() -> None:
    for z in (np.zeros((30, 8)), np.ones((30, 8)), np.full((30, 8), np.nan)):
        assert np.isfinite(map_layout(z)).all()


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, d\)"):
        map_layout(np.zeros(5))


def test_points_are_labeled_first_then_a_fair_sample() -> None:
    labeled, pool = np.arange(40), 40 + np.arange(5000)
    classes = np.where(np.arange(5000) < 4900, 0, 1)
    chosen = choose_map_points(labeled, pool, classes, max_points=540)
    assert len(chosen) == 540
    assert len(set(chosen.tolist())) == 540
    np.testing.assert_array_equal(chosen[:40], labeled)
    assert (classes[chosen[40:] - 40] == 1).sum() in (10, 11)
    np.testing.assert_array_equal(chosen, choose_map_points(labeled, pool, classes, max_points=540))


def test_small_pools_are_taken_whole_and_short_time_takes_fewer() -> None:
    assert len(choose_map_points(range(5), range(5, 30))) == 30
    assert len(choose_map_points([], range(5))) == 5
    assert len(choose_map_points(range(3000), [])) == 2000
    assert len(choose_map_points(range(10), range(10, 9000), seconds=2)) < 600
    assert len(choose_map_points(range(10), range(10, 9000), seconds=0)) >= 100


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (300, 20, 3), (1, 500, 3)])
def test_thumbnails(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    image = Image.open(io.BytesIO(thumbnail(pixels, 72)))
    assert image.format == "WEBP"
    assert max(image.size) == 72


def test_neighbors_on_the_map_differ_in_color() -> None:
    rng = np.random.default_rng(3)
    middles = rng.uniform(0, 1, (21, 2))
    points = [
        MapPoint(*(middles[i % 21] + rng.normal(0, 0.01, 2)), f"{i}", "labeled", f"class {i % 21}")
        for i in range(210)
    ]
    drawing = cluster_map(points, [f"class {i}" for i in range(21)], ("before", "after"))
    assert drawing is not None
    colors = [key.color for key in drawing.keys]
    looks = {(key.color, key.shape) for key in drawing.keys}
    assert len(looks) == 21, "every class has a look of its own"
    assert colors[:8] == list(range(8))
    far = ((middles[:, None] - middles[None]) ** 2).sum(-1)
    np.fill_diagonal(far, np.inf)
    assert sum(colors[i] == colors[far[i].argmin()] for i in range(21)) <= 1
