"""Steps and folds of a trained rung: what its share of the time holds."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fallow.study.effort import Effort, share_of, unmeasurable
from fallow.study.rung import Workload
from fallow.study.stage import StagePlan

WORK = Workload(least=60, enough=300, most=600)
NAMES = ("probe", "propagate", "finetune", "joint", "noisy_student", "ensemble")


def plan(seconds: float, step: float = 0.1, folds: int = 5, work: Workload = WORK) -> StagePlan:
    return Effort("joint", seconds, step, work, folds).plan()


@pytest.mark.parametrize("folds", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("step", [0.01, 0.3])
def test_what_is_planned_fits_the_time_and_makes_sense(folds: int, step: float) -> None:
    for seconds in range(1, 3000, 7):
        made = plan(seconds, step, folds)
        if made.skipped:
            assert made.steps is None
            continue
        assert made.steps is not None
        assert WORK.least <= made.steps <= WORK.most
        assert made.folds <= folds
        assert made.folds >= min(2, folds)
        assert (made.folds + 1) * made.steps * step <= seconds
        if made.steps < WORK.enough:
            assert made.folds == min(2, folds)  # more folds are never bought with too few steps


@pytest.mark.parametrize("beside", [0.5, 20.0])
def test_what_a_fit_takes_beside_its_steps_is_planned_for(beside: float) -> None:
    for seconds in range(1, 2000, 13):
        made = Effort("joint", seconds, 0.1, WORK, 5, beside=beside).plan()
        if made.skipped:
            assert made.decision is not None
            needed = float(made.decision.evidence["seconds_needed"])  # type: ignore[arg-type]
            assert needed > seconds
            assert not Effort("joint", needed + 0.5, 0.1, WORK, 5, beside=beside).plan().skipped
        else:
            assert made.steps is not None
            assert (made.folds + 1) * (made.steps * 0.1 + beside) <= seconds


@pytest.mark.parametrize("folds", [1, 2, 5])
def test_more_time_never_means_fewer_folds_nor_less_training_in_all(folds: int) -> None:
    made = [plan(seconds, folds=folds) for seconds in range(1, 2000, 3)]
    for less, more in pairwise(made):
        assert more.folds >= less.folds
        assert not more.skipped or less.skipped
        if more.folds == less.folds:
            assert (more.steps or 0) >= (less.steps or 0)


def test_a_slower_machine_never_gets_more_steps_or_folds() -> None:
    made = [plan(300, step) for step in (0.01, 0.05, 0.1, 0.3, 1.0, 5.0)]
    for fast, slow in pairwise(made):
        assert slow.folds <= fast.folds
        assert (slow.steps or 0) * (slow.folds + 1) <= (fast.steps or 0) * (fast.folds + 1)
    assert made[-1].skipped


def test_enough_steps_come_first_then_folds_then_more_steps() -> None:
    assert (plan(1e6).folds, plan(1e6).steps) == (5, WORK.most)
    exactly = (WORK.enough * 0.1 * 1.15 + 1.0) * 6
    made = plan(exactly + 0.1)
    assert (made.folds, made.steps) == (5, WORK.enough)
    assert plan(exactly - 1).folds == 4


def test_what_is_left_out_says_what_it_needs_and_what_there_was() -> None:
    made = plan(3)
    assert made.skipped
    assert made.note == (
        "joint was skipped: 60 steps on 2 folds and all labels need about 24 s, and its share of the time left is 3 s."
    )
    assert made.decision is not None
    assert made.decision.value == "skipped"
    assert plan(-5).note.endswith("is 0 s.")
    assert plan(float(made.decision.evidence["seconds_needed"]) + 0.2).steps == 60  # type: ignore[arg-type]


def test_where_nothing_is_trained_all_folds_are_measured() -> None:
    made = plan(0.0, 0.0, work=Workload(0, 0, 0))
    assert (made.folds, made.steps, made.skipped) == (5, 0, False)


def test_without_folds_the_refit_alone_is_planned() -> None:
    assert (plan(200, folds=0).folds, plan(200, folds=0).steps) == (0, 600)


def test_the_time_left_is_shared_by_those_that_are_still_to_come() -> None:
    left = 1.0
    for name in NAMES[2:]:
        share = share_of(name, NAMES)
        assert 0 < share <= 1
        left -= share * left
    assert left == 0
    assert share_of("finetune", NAMES) >= 1 / 3
    assert share_of("joint", ("probe", "joint")) == 1


def test_a_rung_that_nothing_could_measure_or_choose_is_left_out() -> None:
    made = unmeasurable("joint")
    assert made.skipped
    assert "nothing can be held out" in made.note
