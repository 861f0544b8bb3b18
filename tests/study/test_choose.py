"""Choosing and claiming."""

from __future__ import annotations

import numpy as np
import pytest

from fallow.study import (
    OutOfFold,
    Prior,
    RungInfo,
    accuracy_interval,
    claims,
    compare,
    corrected_for_choice,
    gain_interval,
    keep,
    mix_weights,
    paired,
)
from fallow.study.judge import Judge


def test_wilson_interval_matches_the_formula_and_never_claims_certainty() -> None:
    # Wilson 1927 for 8 of 10, z = 1.96: centre (p + z2/2n)/(1 + z2/n), written out.
    z2, p, n = 1.959963984540054**2, 0.8, 10
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 * (p * (1 - p) / n + z2 / (4 * n * n))) ** 0.5 / (1 + z2 / n)
    found = accuracy_interval(np.array([1.0] * 8 + [0.0] * 2))
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert accuracy_interval(np.ones(20)).low < 0.9


def test_interval_of_a_gain_covers_the_truth_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(0), 0
    for trial in range(300):
        old = rng.random(80) < 0.7
        new = np.where(rng.random(80) < 0.15, rng.random(80) < 0.9, old)
        truth = 0.15 * (0.9 - 0.7)
        found = gain_interval(new.astype(float), old.astype(float), seed=trial)
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / 300 <= 0.985


def test_the_posterior_lies_between_prior_and_evidence_and_follows_the_larger_sample() -> None:
    old = np.tile([0.0, 1.0], 10)
    new = np.ones(20)
    few = compare(paired(new[:4], old[:4]), Prior(0.02, 0.03))
    many = compare(paired(np.tile(new, 20), np.tile(old, 20)), Prior(0.02, 0.03))
    assert 0.02 < few.expected < 0.5
    assert few.expected < many.expected < 0.5
    assert many.p_better > few.p_better > 0.7


def test_without_evidence_the_prior_decides() -> None:
    assert keep(compare(None, Prior(0.05, 0.05)), cheap=True)
    assert not keep(compare(None, Prior(-0.01, 0.05)), cheap=True)
    assert not keep(compare(None, Prior(0.01, 0.05)), cheap=False)  # dear rungs must persuade


def test_a_dear_rung_that_was_measured_wins_on_the_balance_of_evidence() -> None:
    equal = paired(np.ones(40), np.ones(40))
    assert keep(compare(equal, Prior(0.01, 0.05)), cheap=False)
    assert not keep(compare(equal, Prior(-0.01, 0.05)), cheap=False)
    assert not keep(compare(equal, Prior(0.0, 0.05)), cheap=True)  # of equals the simpler stays


def test_a_rung_that_loses_clearly_is_not_kept_whatever_the_prior_hoped() -> None:
    new, old = np.zeros(60), np.ones(60)
    assert not keep(compare(paired(new, old), Prior(0.1, 0.05)), cheap=True)


def test_the_winner_of_equals_is_corrected_down_and_a_single_candidate_is_not() -> None:
    rng = np.random.default_rng(1)
    equal = {f"rung{i}": (rng.random(40) < 0.8).astype(float) for i in range(6)}
    best = max(equal, key=lambda k: equal[k].mean())
    assert corrected_for_choice(equal, best).value < equal[best].mean() - 0.01
    alone = {"only": equal["rung0"]}
    assert corrected_for_choice(alone, "only").value == pytest.approx(equal["rung0"].mean())


def test_weights_turn_label_shares_into_the_pool_mix() -> None:
    y = np.array([0, 0, 1, 1])
    weights = mix_weights(y, [0.9, 0.1])
    correct = np.array([1.0, 1.0, 0.0, 0.0])
    assert accuracy_interval(correct, weights).value == pytest.approx(0.9)


def test_a_rung_cannot_win_by_the_mix_it_claims_itself() -> None:
    # Four classes, 60 labels each. The probe is right 60 % of the time everywhere; the other rung always gets class 0
    # right and calls most of the rest class 0 too, so that it says the pool is mostly class 0.
    y = np.repeat(np.arange(4), 60)
    evidence = OutOfFold(tuple(str(i) for i in range(240)), y, 4)
    everything = np.arange(240)
    probe_right = np.tile(np.array([1, 1, 1, 0, 0]), 48).astype(bool)
    other_right = (y == 0) | (everything % 3 == 0)
    for name, right in (("probe", probe_right), ("propagate", other_right)):
        said = np.where(right, y, np.where(y == 0, 1, 0))
        evidence.add(name, "0-0", everything, np.eye(4, dtype=np.float32)[said])
    judge = Judge(evidence, 60.0, 0)
    mix = np.array([0.66, 0.113, 0.113, 0.114])
    info = {n: RungInfo(n, n, True, n == "probe", n != "probe") for n in ("probe", "propagate")}
    assert not judge.judge(info["propagate"], info["probe"], mix, 1.0).wins
    correct = evidence.correct(("propagate", "probe"))[1]
    weights = mix_weights(y, mix)
    assert gain_interval(correct["propagate"], correct["probe"], weights).low > 0
    assert not claims(correct["propagate"], correct["probe"], weights)
