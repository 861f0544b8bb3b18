"""What is suggested: typical, different, never what is labeled, nearly the same, or like nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fallow.config.suggest import SuggestConfig
from fallow.study.suggesting import choose, look, pick, tell
from fallow.study.suggesting.cover import similarity
from tests.study.digits import context, write_digits

Array = np.ndarray


def blobs(count: int, each: int, seed: int = 0, spread: float = 0.25) -> Array:
    """Return unit vectors around as many directions, (count * each, 16)."""
    rng = np.random.default_rng(seed)
    centers = np.linalg.qr(rng.standard_normal((16, 16)))[0][:count]
    x = np.repeat(centers, each, 0) + spread * rng.standard_normal((count * each, 16)) / 4
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def everything(x: Array) -> Array:
    return np.arange(len(x))


NONE = np.zeros(0, np.int64)


def test_as_many_suggestions_as_there_are_kinds_name_each_kind_once() -> None:
    x = blobs(6, 30)
    picked = pick([x], NONE, everything(x), np.ones(len(x)), 6)
    assert sorted(picked.rows // 30) == list(range(6))
    assert (np.diff(picked.gains) <= 1e-4).all()


def test_a_kind_that_is_labeled_is_not_asked_for_again() -> None:
    x = blobs(6, 30)
    labeled = np.array([0, 1, 60])
    picked = pick([x], labeled, np.setdiff1d(everything(x), labeled), np.ones(len(x)), 4)
    assert set(picked.rows // 30) == {1, 3, 4, 5}


def test_what_is_uncertain_is_asked_for_first() -> None:
    x = blobs(4, 30)
    weights = np.where(everything(x) // 30 == 2, 1.0, 0.1)
    assert pick([x], NONE, everything(x), weights, 1).rows[0] // 30 == 2


def test_lazy_choice_is_the_greedy_choice() -> None:
    x, rng = blobs(5, 12, spread=1.0), np.random.default_rng(3)
    weights = rng.random(len(x))
    near, has, greedy = similarity([x], everything(x), everything(x)), np.zeros(len(x)), []
    for _ in range(8):
        gains = np.maximum(near - has, 0) @ weights
        gains[greedy] = -1
        greedy.append(int(gains.argmax()))
        has = np.maximum(has, near[greedy[-1]])
    assert pick([x], NONE, everything(x), weights, 8).rows.tolist() == greedy


def test_near_duplicates_of_labeled_or_suggested_images_are_passed_over() -> None:
    x = blobs(3, 4)
    twice = np.concatenate([x, x + np.float32(1e-4)])
    picked = pick([twice], np.array([0]), np.arange(1, 24), np.ones(24), 24)
    assert 12 not in picked.rows
    assert len(set(picked.rows % 12)) == len(picked.rows)
    assert picked.twins >= 12


def test_of_a_large_pool_samples_are_looked_at_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.study.suggesting.cover.CANDIDATES", 40)
    monkeypatch.setattr("fallow.study.suggesting.cover.REFERENCES", 30)
    x = blobs(4, 50)
    first, again = (pick([x], NONE, everything(x), np.ones(len(x)), 4, seed=2).rows for _ in range(2))
    assert first.tolist() == again.tolist()
    assert len(set(first // 50)) == 4


def noise(folder: Path, count: int) -> list[str]:
    """Write images that are no digits: checkerboards at full contrast, each with other noise."""
    rng = np.random.default_rng(0)
    names = []
    for i in range(count):
        board = np.indices((8, 8)).sum(0) % 2 * 255
        pixels = np.where(rng.random((8, 8)) < 0.1 * (i + 1), rng.integers(0, 256, (8, 8)), board)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"noise-{i}.png")
        names.append(f"unlabeled/noise-{i}.png")
    return names


def test_an_image_that_is_no_digit_is_not_suggested_however_many_are_asked_for(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=6, pool=30)
    foreign = noise(data / "unlabeled", 2)
    ctx = context(data, tmp_path / "cache")
    pool = look(ctx)
    chosen = choose(ctx, pool, 200)
    found = tell(ctx, pool, chosen, SuggestConfig(n=200), "digits")
    assert not set(foreign) & {one.path for one in found.items}
    assert found.foreign >= 2
    assert any("left out" in note for note in found.notes)
    assert len(found.items) > 60


def test_with_labels_the_model_says_what_it_takes_each_for_and_labeled_images_are_not_asked_for(
    tmp_path: Path,
) -> None:
    ctx = context(write_digits(tmp_path / "data", labels=2, pool=20), tmp_path / "cache")
    pool = look(ctx)
    found = tell(ctx, pool, choose(ctx, pool, 8), SuggestConfig(n=8), "digits")
    assert len({one.path for one in found.items}) == 8
    assert not {one.path for one in found.items} & set(ctx.data.labeled_ids)
    assert all(one.guess in ctx.data.classes for one in found.items)
    assert found.items[0].score == 1.0
    assert ctx.decisions.get("suggest.strategy").value == "typical and uncertain"  # type: ignore[union-attr]


def test_many_labels_turn_to_the_margin(tmp_path: Path) -> None:
    ctx = context(write_digits(tmp_path / "data", labels=21, pool=20), tmp_path / "cache")
    choose(ctx, look(ctx), 4)
    assert ctx.decisions.get("suggest.strategy").value == "margin"  # type: ignore[union-attr]


@pytest.mark.parametrize("labeled", [0, 1])
def test_no_label_or_labels_of_one_class_are_enough_to_begin(labeled: int, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=3, pool=20)
    for digit in (0, 1, 4, 7)[labeled:]:
        shutil.rmtree(data / "train" / str(digit))
    if not labeled:
        shutil.rmtree(data / "train")
    ctx = context(data, tmp_path / "cache")
    pool = look(ctx)
    found = tell(ctx, pool, choose(ctx, pool, 4), SuggestConfig(n=4), "digits")
    assert len(found.items) == 4
    assert all(one.guess is None for one in found.items)
    assert ("to begin with" in found.sentence) is (labeled == 0)
