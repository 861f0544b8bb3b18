"""Images of no class are set aside, and nothing is where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fallow.study.data import plan_folds
from fallow.study.trained.foreign import benjamini_hochberg, conformal_p_values, foreign_images
from tests.study.digits import context, write_digits


def test_p_values_of_images_like_the_labeled_ones_are_uniform() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([conformal_p_values(rng.normal(size=40), rng.normal(size=200)) for _ in range(50)])
    for level in (0.1, 0.3, 0.7):
        assert abs((p <= level).mean() - np.floor(level * 41) / 41) < 0.03


def test_benjamini_hochberg_is_the_step_up_rule_of_the_paper() -> None:
    p = np.array([0.001, 0.2, 0.012, 0.9, 0.03, 0.05])
    order, rejected = np.sort(p), 0
    for k in range(1, len(p) + 1):
        if order[k - 1] <= k / len(p) * 0.1:
            rejected = k
    assert benjamini_hochberg(p, 0.1).sum() == rejected == 4
    assert not benjamini_hochberg(np.full(5, 0.9), 0.1).any()
    assert not benjamini_hochberg(np.zeros(0), 0.1).any()


@pytest.mark.parametrize("foreign", [0, 40])
def test_noise_among_digits_is_set_aside_and_digits_are_not(foreign: int, tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "data", labels=10, pool=50, seed=0)
    rng = np.random.default_rng(1)
    for number in range(foreign):
        pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "unlabeled" / f"noise-{number}.png")
    ctx = context(folder, tmp_path / "cache")
    noise = np.array(["noise" in name for name in ctx.data.pool_ids])
    found = foreign_images(ctx, None)
    assert found[noise].all() or not foreign
    assert found[~noise].mean() <= 0.1
    made = ctx.decisions.get("foreign")
    assert made is not None
    assert made.value == ("drop" if foreign else "keep")


def test_labels_that_are_no_random_draw_do_not_make_the_pool_foreign(tmp_path: Path) -> None:
    ctx = context(write_digits(tmp_path / "data", labels=10, pool=50), tmp_path / "cache")
    ctx.config.joint.foreign = "drop"
    assert foreign_images(ctx, None).mean() > 0.3  # the first digits of the data are by one writer
    ctx.scratch.clear()
    ctx.config.joint.foreign = "auto"
    assert not foreign_images(ctx, None).any()


def test_what_is_foreign_to_a_fold_does_not_depend_on_its_held_out_labels(tmp_path: Path) -> None:
    ctx = context(write_digits(tmp_path / "data", labels=10, pool=50), tmp_path / "cache")
    ctx.config.joint.foreign = "drop"
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[:3]
    before = foreign_images(ctx, folds[0])
    ctx.data.y[folds[0].held_out] = (ctx.data.y[folds[0].held_out] + 1) % len(ctx.data.classes)
    ctx.scratch.clear()
    np.testing.assert_array_equal(foreign_images(ctx, folds[0]), before)
    assert any((foreign_images(ctx, fold) != before).any() for fold in folds[1:])
