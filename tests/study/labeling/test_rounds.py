"""Labeling in rounds: nothing that judges a round has taught it, and a round that is no better is dropped."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fallow.config import LabelConfig
from fallow.study.context import RungContext
from fallow.study.data import plan_folds
from fallow.study.inputs import FrozenInputs
from fallow.study.labeling.answers import Answers
from fallow.study.labeling.drift import Round, better, optimism
from fallow.study.labeling.evidence import HeldOut
from fallow.study.labeling.lessons import Lesson, accepted, held_out_rounds, learning
from fallow.study.labeling.reliability import Reliability
from fallow.study.labeling.threshold import answers_needed, lower_bound
from fallow.study.rung import Fold
from tests.study.digits import context, write_digits
from tests.study.labeling.draws import answers, held_out
from tests.study.test_leakage import with_other_labels

CONFIG = LabelConfig(rounds=3, precision=0.9)


@pytest.fixture(scope="module", params=[15, 80], ids=["own inputs", "shared inputs"])
def ctx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RungContext:
    """Four digits, 6 labels each; from 300 unlabeled images on all folds share their neighbor lists."""
    home = tmp_path_factory.mktemp("rounds")
    return context(write_digits(home / "data", labels=6, pool=request.param), home / "cache")


def rounds_of(ctx: RungContext, fold: Fold, best: str = "propagate") -> list[np.ndarray]:
    return list(islice(held_out_rounds(ctx, best, fold, CONFIG), 2))


def fold_of(ctx: RungContext) -> Fold:
    return plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[0]


@pytest.mark.parametrize("best", ["propagate", "probe"])
def test_the_held_out_labels_of_a_fold_change_nothing_that_its_rounds_say(
    ctx: RungContext, best: str
) -> None:
    fold = fold_of(ctx)
    found = rounds_of(ctx, fold, best)
    other = rounds_of(with_other_labels(ctx, fold), fold, best)
    for one, two in zip(found, other, strict=True):
        assert one.tobytes() == two.tobytes()
    learned = ctx.train_positions(fold)[:1]  # a label that it may see does change them
    changed = rounds_of(with_other_labels(ctx, Fold(0, 0, learned)), fold, best)
    assert found[0].tobytes() != changed[0].tobytes()


def test_a_round_names_an_image_without_that_image(ctx: RungContext) -> None:
    inputs, pool = FrozenInputs(ctx, None), len(ctx.pool)
    rows = np.arange(0, pool, 2)
    everyone, stay = np.ones(len(ctx.data.y), bool), np.arange(pool) % 3 > 0
    guess = np.arange(len(rows)) % len(ctx.data.classes)
    weight = np.full(len(rows), 0.9, np.float32)
    full = learning(ctx, inputs, Lesson(rows, guess, weight))
    few = learning(ctx, inputs, Lesson(rows[stay[rows]], guess[stay[rows]], weight[stay[rows]]))
    one, two = (make(everyone, stay).state()[0] for make in (full, few))
    for name, value in one.items():  # what has left the pool has left the lesson
        np.testing.assert_array_equal(value, two[name], err_msg=name)


def test_what_is_foreign_teaches_nothing() -> None:
    probs, _ = answers(300, np.random.default_rng(0))
    known = Reliability.fit(held_out(200, np.random.default_rng(1)))
    may = np.arange(300) % 2 == 0
    lesson = accepted(CONFIG, known, probs, may)
    assert len(lesson)
    assert may[lesson.rows].all()
    np.testing.assert_array_equal(lesson.guess, probs[lesson.rows].argmax(1))
    assert lesson.weight.mean() >= 0.9
    assert len(accepted(LabelConfig(coverage=0.2), known, probs, may)) == 60


def drawn(name: str, seed: int, right: float, sharp: float = 1.0, count: int = 150) -> Round:
    """A round over 500 pool images that names this share of held-out labels rightly, more often where it is sure."""
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.3, 1, count)
    hit = np.argsort(np.argsort(sure + rng.normal(0, 0.1, count))) >= round((1 - right) * count)
    y = rng.integers(0, 2, count)
    probs = np.full((count, 2), 0.5)
    named = np.where(hit, y, 1 - y)
    probs[np.arange(count), named] += sharp * sure / 2.001
    probs[np.arange(count), 1 - named] -= sharp * sure / 2.001
    known = HeldOut(np.arange(count), probs, y)
    top = np.random.default_rng(9).uniform(0.3, 1, 500)
    pool = np.stack([0.5 + top / 2.001, 0.5 - top / 2.001], 1)
    pool[::2] = pool[::2, ::-1]
    said = Answers(("a", "b"), pool.astype(np.float32), known, ("test",))
    return Round(name, said, known, np.ones(500, bool), LabelConfig(precision=0.97))


def test_a_round_that_names_fewer_held_out_labels_rightly_is_dropped() -> None:
    first = drawn("probe", 0, 0.9)
    assert better(drawn("round-2", 0, 0.96), first)[0]
    kept, why = better(drawn("round-2", 0, 0.82), first)
    assert not kept
    assert "fewer held-out labels are named rightly: −8.0 points" in why


def test_a_round_that_changes_nothing_is_dropped() -> None:
    first = drawn("probe", 0, 0.9)
    kept, why = better(replace(first, name="round-2"), first)
    assert not kept
    assert "no more is accepted; +0.0 points" in why


def test_the_surest_alone_may_not_get_worse() -> None:
    first = drawn("probe", 0, 0.9)
    swapped = first.compared.probs.copy()
    sure = np.argsort(-np.abs(swapped[:, 0] - 0.5))[:12]
    wrong = np.flatnonzero(~first.compared.right)[:12]
    both = np.concatenate([sure, wrong])
    swapped[both] = swapped[both, ::-1]  # as many are right, but twelve of the surest are wrong
    kept, why = better(replace(first, compared=replace(first.compared, probs=swapped)), first)
    assert not kept
    assert why.startswith("fewer held-out labels are named rightly: +0.0 points of all")


@pytest.mark.parametrize(("changed", "lost", "kept"), [(1, 1, False), (10, 6, True), (10, 7, False)])
def test_few_lost_labels_among_many_changed_ones_are_luck(changed: int, lost: int, kept: bool) -> None:
    """Of 105 held-out labels, as the docs tell it; more is accepted in any case."""
    rng = np.random.default_rng(0)
    right = np.arange(105) < 90
    rows = np.concatenate([np.flatnonzero(right)[-lost:], np.flatnonzero(~right)[: changed - lost]])
    pool = rng.uniform(0.6, 1, 500)

    def made(name: str, right: np.ndarray, sharp: float) -> Round:
        sure = np.where(right, 0.9, 0.6)
        probs = np.stack([sure, 1 - sure], 1)
        known = HeldOut(np.arange(105), probs, np.where(right, 0, 1))
        named = np.stack([pool**sharp, 1 - pool**sharp], 1).astype(np.float32)
        named[::2] = named[::2, ::-1]
        said = Answers(("a", "b"), named, drawn("x", 0, 0.9).answers.held_out, ())
        return Round(name, said, known, np.ones(500, bool), LabelConfig(precision=0.97))

    other = right.copy()
    other[rows] = ~other[rows]
    first, second = made("probe", right, 1.0), made("round-2", other, 0.8)
    assert len(second.accepted()[0]) > len(first.accepted()[0])
    same = replace(second, compared=replace(first.compared, probs=_named(first, other)))
    assert better(same, first)[0] is kept


def _named(one: Round, right: np.ndarray) -> np.ndarray:
    """Return the answers of a round, as sure as they are, that are right where it is said."""
    probs = one.compared.probs.copy()
    change = one.compared.right != right
    probs[change] = probs[change, ::-1]
    return probs


def test_choosing_the_luckiest_of_many_equal_rounds_is_corrected_for() -> None:
    rounds = [drawn(f"round-{seed}", seed, 0.9) for seed in range(4)]
    shuffled = []
    for number, one in enumerate(rounds):  # equally good, on other images each
        order = np.random.default_rng(number).permutation(150)
        probs = one.compared.probs[order]
        y = one.compared.y[order]
        shuffled.append(replace(one, compared=HeldOut(np.arange(150), probs, y)))
    factor = optimism(shuffled, shuffled[0])
    assert 1.05 < factor < 1.6
    assert optimism(shuffled[:1], shuffled[0]) == 1.0
    known = held_out(200, np.random.default_rng(3))
    probs, _ = answers(500, np.random.default_rng(4))
    plain, corrected = Reliability.fit(known), Reliability.fit(replace(known, optimism=factor))
    np.testing.assert_allclose(
        1 - corrected.probability(probs), factor * (1 - plain.probability(probs)), atol=1e-12
    )
    a, b = plain.precision(probs), corrected.precision(probs)
    assert b.low < a.low
    assert b.value < a.value
    assert b.high < a.high


def test_certificates_of_several_rounds_hold_together() -> None:
    assert answers_needed(0.9, 1) == 29
    assert answers_needed(0.9, 3) == 39  # 0.9 ** 39 < 0.05 / 3
    assert lower_bound(57, 60, 3) < lower_bound(57, 60)
    assert lower_bound(39, 39, 3) >= 0.9 > lower_bound(38, 38, 3)


def test_too_few_labels_stop_a_further_round_and_that_stays_so(tmp_path: Path) -> None:
    from fallow.study.labeling.rounds import look

    ctx = context(write_digits(tmp_path / "data", labels=2, pool=10), tmp_path / "cache")
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)
    heeded: list[Any] = []
    study: Any = SimpleNamespace(
        folds=folds,
        names=("probe", "propagate"),
        evidence=SimpleNamespace(folds=lambda rung: len(folds)),
        run=SimpleNamespace(stage=lambda index, name: tmp_path / f"{index}-{name}"),
        heed=heeded.append,
    )
    said = Answers(ctx.data.classes, np.zeros((40, 4), np.float32), held_out(8, np.random.default_rng(0)), ())
    for _ in range(2):
        assert look(study, ctx, "propagate", CONFIG, said) is None
    assert "takes three labels in every class" in heeded[0].note
    assert heeded[0] == heeded[1]
