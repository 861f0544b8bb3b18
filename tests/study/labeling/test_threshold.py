"""What is accepted, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from fallow.study.labeling.evidence import HeldOut
from fallow.study.labeling.reliability import Reliability
from fallow.study.labeling.threshold import (
    answers_needed,
    by_certificate,
    by_coverage,
    by_precision,
    lower_bound,
)
from tests.study.labeling.draws import answers, held_out


@pytest.mark.parametrize(("target", "needed"), [(0.95, 59), (0.9, 29), (0.8, 14), (0.99, 299)])
def test_a_precision_takes_so_many_right_answers_to_certify(target: float, needed: int) -> None:
    assert answers_needed(target) == needed
    assert lower_bound(needed, needed) >= target > lower_bound(needed - 1, needed - 1)


def test_the_lower_bound_is_the_one_that_tables_give() -> None:
    assert lower_bound(57, 60) == pytest.approx(0.8760, abs=5e-4)  # Clopper and Pearson, one-sided
    assert lower_bound(0, 10) == 0


def test_labels_are_accepted_as_long_as_their_mean_keeps_the_precision() -> None:
    probability = np.array([0.99, 0.5, 0.95, 0.8, 0.9])
    may = np.array([True, True, True, True, False])
    assert by_precision(probability, may, 0.9).accepted.tolist() == [True, False, True, True, False]
    assert by_precision(probability, may, 0.96).threshold == 0.95
    nothing = by_precision(probability, may, 0.995)
    assert not nothing.accepted.any()
    assert "no label reaches a precision of 0.995" in nothing.why


def test_a_coverage_is_kept_and_told_where_it_cannot_be() -> None:
    probability = np.linspace(0.5, 1, 10)
    assert by_coverage(probability, np.ones(10, bool), 0.3).accepted.tolist() == [False] * 7 + [True] * 3
    few = by_coverage(probability, probability > 0.9, 0.8)
    assert few.accepted.sum() == 2
    assert "only 2 of the 8 labels asked for" in few.why
    assert "all of them" in by_coverage(probability, np.zeros(10, bool), 0.8).why


def test_a_certified_precision_holds_in_nineteen_of_twenty_draws() -> None:
    broken = given = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        known = held_out(150, rng, 1.5)
        model = Reliability.fit(known)
        probs, y = answers(2000, rng, 1.5)
        choice = by_certificate(
            model.probability(probs), np.ones(2000, bool), 0.85, known, model.probability(known.probs)
        )
        if choice.accepted.any():
            given += 1
            assert choice.certified is not None
            assert choice.certified >= 0.85
            broken += (probs.argmax(1) == y)[choice.accepted].mean() < 0.85
    assert given >= 50
    assert broken <= 10  # 5 expected of 100; more than 10 in one of 90 such tests


def test_few_labels_certify_nothing_and_it_says_how_many_it_takes() -> None:
    rng = np.random.default_rng(0)
    known = held_out(40, rng)
    model = Reliability.fit(known)
    choice = by_certificate(
        model.probability(answers(100, rng)[0]),
        np.ones(100, bool),
        0.95,
        known,
        model.probability(known.probs),
    )
    assert not choice.accepted.any()
    assert "not certifiable with 40 held-out labels" in choice.why
    assert "59" in choice.why


def test_wrong_answers_certify_nothing() -> None:
    probs = np.tile([0.97, 0.03], (80, 1))
    y = (np.arange(80) % 4 == 0).astype(np.int64)
    known = HeldOut(np.arange(80), probs, y)
    choice = by_certificate(np.full(20, 0.97), np.ones(20, bool), 0.95, known, np.full(80, 0.97))
    assert not choice.accepted.any()
    assert "so many are wrong" in choice.why


def test_unequal_weights_make_a_certificate_harder() -> None:
    rng = np.random.default_rng(4)
    known = HeldOut(np.arange(70), np.tile([0.97, 0.03], (70, 1)), np.zeros(70, np.int64))
    pool = np.full(50, 0.97)
    plain = by_certificate(pool, np.ones(50, bool), 0.95, known, np.full(70, 0.97))
    weights = rng.permutation(np.linspace(0.02, 1.98, 70))
    weighted = by_certificate(pool, np.ones(50, bool), 0.95, known, np.full(70, 0.97), weights)
    assert plain.accepted.all()
    assert not weighted.accepted.any()
