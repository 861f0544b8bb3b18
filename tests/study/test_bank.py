"""Vectors are kept once and copied as rarely as can be: 100,000 images are half a gigabyte each time."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fallow.config import EmbedConfig
from fallow.methods import propagation
from fallow.models import EmbeddingClassifier, Space, create_backbone
from fallow.study import RUNGS
from fallow.study.bank import SpaceBank
from fallow.study.candidates import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.data import plan_folds
from fallow.study.inputs import FrozenInputs
from tests.study.digits import context, write_digits


@pytest.fixture
def ctx(tmp_path: Path) -> RungContext:
    return context(write_digits(tmp_path / "data", labels=4, pool=130), tmp_path / "cache", "edges")


def test_images_among_others_that_are_kept_are_rows_of_those(
    ctx: RungContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = ctx.bank
    space = bank.space("edges", 8, "turns")
    labeled, pool = bank.pooled(space, ctx.labeled), bank.pooled(space, ctx.pool)
    computed: list[object] = []
    real = SpaceBank.compute
    monkeypatch.setattr(SpaceBank, "compute", lambda *given: computed.append(given) or real(*given))
    for rows in ([5, 0, 3], [1], list(range(len(labeled)))):
        some = ctx.data.images(tuple(ctx.labeled.ids[r] for r in rows))
        np.testing.assert_array_equal(bank.pooled(space, some), labeled[rows])
    assert not computed
    assert bank.pooled(space, ctx.pool) is pool
    mixed = ctx.data.images((ctx.labeled.ids[2], ctx.pool.ids[7]))
    np.testing.assert_array_equal(bank.pooled(space, mixed), [labeled[2], pool[7]])
    assert len(computed) == 1
    assert bank.pooled(space, ctx.data.images(())).shape == (0, labeled.shape[1])


def test_the_folds_of_a_rung_leave_no_vectors_behind(ctx: RungContext) -> None:
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)
    RUNGS["probe"].fit(ctx, None, {})
    kept = {key: set(sets) for key, sets in ctx.bank._vectors.items()}
    assert kept
    for fold in folds[:4]:
        candidate = RUNGS["probe"].fit(ctx, fold, {})
        candidate.predict(ctx.data.images(tuple(ctx.data.labeled_ids[i] for i in fold.held_out)))
    known = {ctx.labeled.ids, ctx.pool.ids}
    assert all(set(sets) <= known | kept.get(key, set()) for key, sets in ctx.bank._vectors.items())


def test_a_large_pool_is_normalized_and_judged_without_a_copy(
    ctx: RungContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned_on, judged = [], []
    fit, predict = propagation.fit_feature_map, EmbeddingClassifier.predict_probs

    def fitted(features: np.ndarray, **options: object) -> object:
        learned_on.append(features)
        return fit(features, **options)  # type: ignore[arg-type]

    def predicted(self: EmbeddingClassifier, features: dict[str, np.ndarray]) -> np.ndarray:
        judged.extend(features.values())
        return predict(self, features)

    monkeypatch.setattr(propagation, "fit_feature_map", fitted)
    monkeypatch.setattr(EmbeddingClassifier, "predict_probs", predicted)
    candidate = RUNGS["propagate"].fit(ctx, None, {})
    candidate.predict(ctx.pool)
    pool = ctx.bank.pooled(FrozenInputs(ctx, None).spaces[0], ctx.pool)
    assert len(learned_on) == 2
    for array in (*learned_on, *judged):
        assert np.shares_memory(array, pool)
    assert isinstance(candidate, FrozenCandidate)
    branch = candidate.classifier.branches[0]
    twice = np.repeat(pool[:50, None], 2, axis=1)  # of two equal views the mean is the view
    np.testing.assert_allclose(branch.log_probs(twice), branch.log_probs(twice[:, :1]), atol=1e-5)


def test_the_names_of_a_study_are_listed_once(ctx: RungContext) -> None:
    assert ctx.pool is ctx.pool
    assert ctx.labeled is ctx.labeled
    assert ctx.pool.ids == ctx.data.pool_ids
    assert list(ctx.labeled.pixel_hashes) == ctx.data.table.column("pixel_hash", ctx.data.labeled_ids)


def test_networks_of_the_same_name_and_weights_are_one_and_stay_while_one_is_held(tmp_path: Path) -> None:
    bank = SpaceBank(EmbedConfig(backbone="pixels"), tmp_path, offline=True)
    first = replace(create_backbone("small_resnet_8", size=8), name="rung/small_resnet_8")
    held = bank.register(first)
    again = bank.register(replace(first))
    assert again is held
    del again
    gc.collect()
    assert bank.network(Space(first.name, first.weights_id, 8, "none")) is held
