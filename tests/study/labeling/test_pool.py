"""What is asked of the pool beside its labels: who is a stranger, who agrees, and who had learned from whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fallow.methods import Propagation, propagate
from fallow.methods.propagation import PropagationInputs
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs
from fallow.study.labeling.agreement import agreement, by_models, by_neighbors, by_views
from fallow.study.labeling.apart import said_apart
from fallow.study.labeling.strangers import find_strangers, strangers_of
from fallow.study.rungs import RUNGS
from tests.study.digits import context, write_digits

EVEN = np.full(2, 0.5)


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> RungContext:
    """Zeros and ones, 30 labels each, 40 of each in the pool, and 12 images of noise."""
    home = tmp_path_factory.mktemp("pool")
    folder = write_digits(home / "data", classes=(0, 1), labels=30, pool=40, seed=0)
    rng = np.random.default_rng(1)
    for number in range(12):
        pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "unlabeled" / f"noise-{number}.png")
    return context(folder, home / "cache")


def noise(ctx: RungContext) -> np.ndarray:
    return np.array(["noise" in id_ for id_ in ctx.pool.ids])


def test_images_of_no_class_are_set_aside_and_score_high(ctx: RungContext) -> None:
    found, strange = find_strangers(ctx, "auto", EVEN), noise(ctx)
    assert found.foreign[strange].mean() > 0.8
    assert found.foreign[~strange].mean() < 0.15
    assert found.score[strange].min() > np.median(found.score[~strange])
    assert not (found.edge & found.foreign).any()
    assert found.edge.any()


def test_nothing_is_set_aside_where_that_was_asked_for_and_the_score_is_told(ctx: RungContext) -> None:
    found = find_strangers(ctx, "keep", EVEN)
    assert not found.foreign.any()
    assert not found.edge.any()
    np.testing.assert_array_equal(found.score, find_strangers(ctx, "auto", EVEN).score)


def test_a_common_class_that_lies_scattered_counts_as_often_as_it_is_there(ctx: RungContext) -> None:
    own = ~noise(ctx)
    rare, common = (find_strangers(ctx, "auto", np.array(mix)).score for mix in ([0.95, 0.05], [0.05, 0.95]))
    assert (rare != common)[own].any()


def test_every_pool_image_is_named_by_heads_that_did_not_learn_from_it(
    ctx: RungContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def listening(inputs: PropagationInputs, labels: np.ndarray, *rest: Any) -> Propagation:
        seen.append(inputs.features[labels < 0])
        return propagate(inputs, labels, *rest)

    monkeypatch.setattr("fallow.study.labeling.apart.propagate", listening)
    apart = said_apart(ctx, 1.0)
    everything = FrozenInputs(ctx, None).apart(FrozenInputs(ctx, None).spaces[0])[1]
    times = np.zeros(len(everything), np.int64)
    for features in seen:
        learned = {row.tobytes() for row in features}
        times += [row.tobytes() not in learned for row in everything]
    assert len(seen) == 5
    assert (times == 1).all()  # each image was left out once
    final = RUNGS["propagate"].fit(ctx, None, {}).predict(ctx.pool).probs.numpy()
    assert (apart.argmax(1) == final.argmax(1))[~noise(ctx)].mean() > 0.95
    np.testing.assert_allclose(apart.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(apart, said_apart(ctx, 1.0))


def test_neighbors_agree_on_what_lies_in_the_middle_of_a_class(ctx: RungContext) -> None:
    guess = said_apart(ctx, 1.0).argmax(1)
    shares = by_neighbors(ctx, guess, ctx.data.y)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares[~noise(ctx)].mean() > 0.95
    swapped = by_neighbors(ctx, 1 - guess, ctx.data.y)
    assert swapped.mean() < shares.mean()


def test_agreement_is_the_mean_of_those_who_could_be_asked(ctx: RungContext) -> None:
    votes = by_models([np.array([0, 1, 1]), np.array([0, 0, 1])], np.array([0, 0, 0]))
    assert votes is not None
    assert votes.tolist() == [1.0, 0.5, 0.0]
    assert by_models([np.array([0])], np.array([0])) is None
    assert agreement((votes, None, np.array([0.0, 0.5, 1.0])), 3).tolist() == [0.5, 0.5, 0.5]
    assert np.isnan(agreement((None, None), 3)).all()
    candidate = RUNGS["propagate"].fit(ctx, None, {})
    assert by_views(ctx, candidate, np.zeros(len(ctx.pool), np.int64)) is None  # type: ignore[arg-type]  # pixels have one view


def test_more_strangers_than_may_be_are_not_set_aside_but_told(ctx: RungContext) -> None:
    few = FrozenInputs(ctx, None)
    own = ~noise(ctx)
    found = find_strangers(ctx, "auto", EVEN)
    assert found.doubted == 0
    assert found.note == ""
    vectors = few.apart

    def apart(space: Any) -> Any:
        labeled, pool = vectors(space)
        return labeled, np.where(own[:, None], -pool, pool)  # most images lie on the other side

    few.apart = apart  # type: ignore[method-assign]
    many = strangers_of(few, ctx.data.y, "auto", EVEN)
    assert not many.foreign.any()
    assert many.doubted > own.sum() / 2
    assert "none of your classes" in many.note
