"""The sentence claims what was measured, and says why where nothing was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.record import (
    ONE_GROUP,
    Counts,
    ExtraUse,
    Interval,
    PoolUse,
    RungResult,
    Scored,
    StudyResult,
)
from fallow.report.explain import short_verdict
from fallow.report.view import why_no_held_out
from fallow.study.verdict import verdict

COUNTS = Counts(42, 1638, 420, 21)
PROBE = Scored("probe", Interval(0.7, 0.6, 0.8, 42), 0.66, 0.61)
SPREAD = Scored("propagate", Interval(0.72, 0.6, 0.8, 42), 0.68, 0.63)
BLIND = Scored("probe"), Scored("propagate")


def gain(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05, 42)


def study(chosen: Scored, base: Scored, found: Interval | None, pool_use: PoolUse = "learned") -> StudyResult:
    rows = [RungResult("probe")]
    if pool_use == "learned":
        rows.append(RungResult("propagate", gain=found))
    return StudyResult(
        "classification", 0, 1.0, COUNTS, base, chosen, tuple(rows), False, "", pool_use=pool_use
    )


@pytest.mark.parametrize(
    ("pool_use", "said"),
    [
        ("none", "no unlabeled images"),
        ("unusable", "no usable unlabeled images"),
        ("not asked", "asked for"),
        ("no time", "no time"),
        ("no time then", "that this one follows had no time"),
    ],
)
def test_where_nothing_learned_from_the_unlabeled_images_no_sentence_says_that_they_did_not_help(
    pool_use: PoolUse, said: str
) -> None:
    for sentence in (
        verdict(COUNTS, PROBE, PROBE, None, False, 0, pool_use),
        short_verdict(study(PROBE, PROBE, None, pool_use)),
    ):
        assert said in sentence.lower()
        assert "42 labels alone" in sentence
        assert "help" not in sentence
        assert "better" not in sentence


def test_labels_alone_chosen_unmeasured_is_not_said_to_be_better() -> None:
    probe, _ = BLIND
    for sentence in (
        verdict(COUNTS, probe, probe, None, False, 0),
        short_verdict(study(probe, probe, None)),
    ):
        assert "one label in a class" in sentence
        assert "cannot be measured" in sentence.replace("\n", " ")
        assert "better" not in sentence
        assert "did not help" not in sentence


def test_one_group_in_a_class_is_not_called_one_label() -> None:
    for chosen, base in ((BLIND[0], BLIND[0]), (BLIND[1], BLIND[0])):
        grouped = replace(study(chosen, base, None), unmeasured=ONE_GROUP)
        for sentence in (
            verdict(COUNTS, base, chosen, None, False, None, unmeasured=ONE_GROUP),
            short_verdict(grouped),
        ):
            assert "all labels of a class in one group" in sentence
            assert "one label in a class" not in sentence
        assert "two groups of each class" in why_no_held_out(grouped)
        assert "two images of each class" in why_no_held_out(study(chosen, base, None))


def test_a_loss_is_told_with_its_interval_and_a_gain_that_was_outweighed_is_not_called_a_loss() -> None:
    lost = verdict(COUNTS, PROBE, PROBE, gain(-0.021), False, 0)
    assert "did not help" in lost
    assert "2.1 points lower" in lost
    assert "-7.1 to +2.9" in lost
    outweighed = verdict(COUNTS, PROBE, PROBE, gain(0.021), False, 0)
    assert "better" not in outweighed
    assert "2.1 points higher" in outweighed
    assert "did not help" in short_verdict(study(PROBE, PROBE, gain(-0.021)))
    assert "did not help" not in short_verdict(study(PROBE, PROBE, gain(0.021)))


@pytest.mark.parametrize(
    ("value", "said"), [(-0.02, "2.0 points lower"), (0.0, "no better"), (3e-4, "no better")]
)
def test_a_rung_chosen_against_the_held_out_labels_is_not_called_probably_better(
    value: float, said: str
) -> None:
    sentence = verdict(COUNTS, PROBE, SPREAD, gain(value), False, None)
    assert sentence.startswith("Chosen by experience on other data: label propagation")
    assert said in sentence
    short = short_verdict(study(SPREAD, PROBE, gain(value)))
    for text in (sentence, short):
        assert "Probably" not in text
    assert "experience" in short
    assert "Probably better" in verdict(COUNTS, PROBE, SPREAD, gain(0.02), False, None)


def test_an_interval_above_zero_that_is_no_claim_is_explained() -> None:
    sentence = verdict(COUNTS, PROBE, SPREAD, gain(0.06), False, None, mixed=True)
    assert "cannot prove it" not in sentence
    assert "counted as they are" in sentence


def test_a_model_is_not_compared_with_itself() -> None:
    alone = verdict(COUNTS, PROBE, PROBE, gain(-0.01), False, 0, mixed=True)
    assert "against" not in alone
    assert "61.0 %" in alone
    other = verdict(COUNTS, PROBE, SPREAD, gain(0.02), False, None, mixed=True)
    assert "68.0 % against 66.0 %" in other
    assert "63.0 % against 61.0 %" in other


def test_old_results_that_do_not_say_what_became_of_the_pool_are_read() -> None:
    old = study(PROBE, PROBE, gain(-0.01)).to_json()
    del old["pool_use"]
    again = StudyResult.from_json(old)
    assert again.pool_use == "learned"
    assert short_verdict(replace(again, counts=Counts(42, 0, 420, 21))).startswith("No unlabeled images")


BESIDE = replace(COUNTS, extra=500)
BLEND = Scored("blend", Interval(0.75, 0.6, 0.8, 42), 0.7, 0.7)


@pytest.mark.parametrize(
    ("chosen", "found", "extra", "said"),
    [
        (SPREAD, gain(0.1), ExtraUse(3.0, gain=gain(0.07)), "Your 1,638 unlabeled and 500 extra images made"),
        (SPREAD, gain(0.1), ExtraUse(3.0, gain=gain(0.07)), "a linear model 7.0 points better on held-out"),
        (SPREAD, gain(0.1), ExtraUse(3.0), "Your 500 extra images were counted 3 times as much"),
        (SPREAD, gain(0.1), ExtraUse(0.0), "Your 1,638 unlabeled images made"),
        (SPREAD, gain(0.1), ExtraUse(0.0), "Your 500 extra images were left out: they did not help"),
        (SPREAD, gain(0.1), ExtraUse(0.0, asked=True), "500 extra images were left out: as asked for"),
        (BLEND, gain(0.1), ExtraUse(1.0, gain=gain(0.1)), "Your 500 extra images made the model better"),
        (PROBE, gain(-0.1), ExtraUse(1.0, gain=gain(-0.02)), "a linear model 2.0 points worse on held-out"),
    ],
)
def test_extra_images_are_credited_with_what_they_did_and_with_nothing_else(
    chosen: Scored, found: Interval, extra: ExtraUse, said: str
) -> None:
    assert said in verdict(BESIDE, PROBE, chosen, found, chosen is not PROBE, 160, extra=extra)


def test_without_unlabeled_images_a_model_that_learned_from_extra_ones_is_not_from_labels_alone() -> None:
    extra = ExtraUse(1.0, gain=gain(0.1))
    sentence = verdict(BESIDE, PROBE, BLEND, gain(0.1), True, 160, "none", extra=extra)
    assert sentence.startswith(
        "There were no unlabeled images, so this is the best model from your 42 labels and"
    )
    made = replace(study(BLEND, PROBE, None, "none"), counts=BESIDE, extra=extra, claim=True)
    made = replace(made, rungs=(*made.rungs, RungResult("blend", gain=gain(0.1))))
    assert "alone" not in sentence.split(".")[0]
    assert short_verdict(made).startswith("Better than labels alone")
    assert "left out" not in short_verdict(made)
    assert "500 extra images were left out" in short_verdict(replace(made, extra=ExtraUse(0.0)))
