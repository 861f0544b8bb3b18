"""What rungs on frozen vectors share: made once, when it is needed, and never with a held-out image in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fallow.methods import prepare_inputs, propagation
from fallow.study import RUNGS, inputs
from fallow.study.context import RungContext
from fallow.study.data import plan_folds
from fallow.study.inputs import FrozenInputs, options_of
from tests.study.digits import context, write_digits

SMALL, LARGE = (
    20,
    130,
)  # in the pool, of each of four classes: below 300 each fold makes its own normalization


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Count the calls of a function that the inputs are made with."""
    calls: list[object] = []
    real = getattr(propagation, name)

    def watched(*given: object, **named: object) -> object:
        calls.append(given)
        return real(*given, **named)

    monkeypatch.setattr(propagation, name, watched)
    return calls


def two(tmp_path: Path, pool: int) -> RungContext:
    return context(write_digits(tmp_path / "data", labels=4, pool=pool), tmp_path / "cache", "edges+pixels")


@pytest.mark.parametrize("pool", [SMALL, LARGE])
def test_labels_alone_ask_for_no_neighbors(
    pool: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = two(tmp_path, pool)
    searches = counted(monkeypatch, "find_neighbors")
    for fold in [*plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[:2], None]:
        RUNGS["probe"].fit(ctx, fold, {})
    assert not searches
    RUNGS["propagate"].fit(ctx, None, {})
    assert searches


def test_neighbors_are_searched_once_for_each_space_where_folds_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = two(tmp_path, LARGE)
    folds = [*plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[:3], None]
    searches, maps = counted(monkeypatch, "find_neighbors"), counted(monkeypatch, "fit_feature_map")
    spaces = set()
    for rung in (RUNGS["probe"], RUNGS["propagate"]):
        for fold in folds:
            rung.fit(ctx, fold, {})
            spaces |= set(FrozenInputs(ctx, fold).spaces)
    assert len(searches) == len(spaces)
    assert len(maps) == 2 * len(spaces)  # one for heads, one for the graph


def test_with_a_small_pool_the_rungs_of_a_fold_share_what_the_fold_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = two(tmp_path, SMALL)
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[:2]
    searches, maps = counted(monkeypatch, "find_neighbors"), counted(monkeypatch, "fit_feature_map")
    for rung in (RUNGS["probe"], RUNGS["propagate"]):
        for fold in folds:
            rung.fit(ctx, fold, {})
    assert len(searches) == 2 * len(folds)
    assert len(maps) == 4 * len(folds)
    ctx.drop_scratch(folds[0])
    assert not [key for key in ctx.scratch if key[0] == folds[0].key]
    assert [key for key in ctx.scratch if key[0] == folds[1].key]


def test_of_many_images_no_fold_leaves_anything_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = two(tmp_path, SMALL)
    fold = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[0]
    kept = RUNGS["propagate"].fit(ctx, fold, {}).state()[0]
    ctx.drop_scratch(fold)
    monkeypatch.setattr(inputs, "_KEPT_ROWS", 10)
    again = RUNGS["propagate"].fit(ctx, fold, {}).state()[0]
    assert [name for owner, name in ctx.scratch if owner == fold.key] == ["spaces"]
    for name, array in kept.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


@pytest.mark.parametrize("pool", [SMALL, LARGE])
def test_carriers_are_what_preparing_all_embeddings_at_once_gives(pool: int, tmp_path: Path) -> None:
    ctx = two(tmp_path, pool)
    found, options = FrozenInputs(ctx, None), options_of(ctx)
    rows = [
        np.concatenate([ctx.bank.pooled(space, images) for images in (ctx.labeled, ctx.pool)])
        for space in found.spaces
    ]
    for turn, carrier in enumerate(found.carriers()):
        whole = prepare_inputs(rows[turn:] + rows[:turn], found.labels < 0, options)
        np.testing.assert_array_equal(carrier.features, whole.features)
        for one, other in zip(carrier.neighbors, whole.neighbors, strict=True):
            count = options.neighbors
            np.testing.assert_array_equal(one.index[:, :count], other.index[:, :count])
            np.testing.assert_array_equal(one.similarity[:, :count], other.similarity[:, :count])
