"""Figures of features, against what they are by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fallow.engine import effective_rank
from fallow.record import Interval
from fallow.study.evidence import OutOfFold
from fallow.study.pretraining.measure import cka, deal, knn_accuracy, neighbors, probe, shared
from fallow.study.pretraining.verdict import finding_of, verdict

RNG = np.random.default_rng(0)


def _clusters(spread: float, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(count) % 3
    centers = np.eye(3, 8)
    return (centers[y] + RNG.normal(scale=spread, size=(count, 8))).astype(np.float32), y.astype(np.int64)


def _groups(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def test_the_rank_is_the_number_of_equal_directions_and_one_for_a_line() -> None:
    rotation = np.linalg.qr(RNG.normal(size=(40, 40)))[0][:, :6].astype(np.float32)
    line = np.outer(np.arange(1, 41), np.ones(6)).astype(np.float32)
    assert effective_rank(torch.from_numpy(rotation)) == pytest.approx(6, rel=1e-3)
    assert effective_rank(torch.from_numpy(line)) == pytest.approx(1, rel=1e-3)
    assert effective_rank(torch.eye(400), rows=400) == pytest.approx(400, rel=1e-3)


def test_cka_sees_neither_rotation_nor_scale_and_is_low_for_what_has_nothing_in_common() -> None:
    x = RNG.normal(size=(400, 5)).astype(np.float32)
    turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0].astype(np.float32)
    assert cka(x, 3 * x @ turn + 1) == pytest.approx(1, abs=1e-5)
    assert cka(x, RNG.normal(size=(400, 5)).astype(np.float32)) < 0.1


def test_an_image_is_no_neighbor_of_itself_or_of_its_own_view() -> None:
    x, _ = _clusters(0.3)
    assert not (neighbors(x) == np.arange(len(x))[:, None]).any()
    assert not (neighbors(x, x + 1e-4) == np.arange(len(x))[:, None]).any()
    assert shared(neighbors(x), neighbors(x, x)) == 1.0
    assert shared(neighbors(x), neighbors(x, RNG.normal(size=x.shape).astype(np.float32))) < 0.6


def test_probe_and_neighbors_never_see_the_label_that_they_are_scored_on() -> None:
    """Labels that say nothing are named at chance, which a judge that sees them would not do."""
    x = RNG.normal(size=(120, 60)).astype(np.float32)
    y = RNG.integers(0, 3, 120)
    folds = deal(y, _groups(120), 0)
    evidence = OutOfFold(_groups(120), y, 3)
    for number, held in enumerate(folds):
        probe(evidence, "noise", x, held, number)
    _, right = evidence.correct(("noise",))
    assert right["noise"].mean() < 0.55
    assert knn_accuracy(x, y, folds) < 0.55


def test_clear_classes_are_told_apart() -> None:
    x, y = _clusters(0.1)
    folds = deal(y, _groups(60), 0)
    evidence = OutOfFold(_groups(60), y, 3)
    for number, held in enumerate(folds):
        probe(evidence, "clear", x, held, number)
    _, right = evidence.correct(("clear",))
    assert right["clear"].mean() == 1.0
    assert knn_accuracy(x, y, folds) == 1.0


@pytest.mark.parametrize(
    ("low", "high", "finding", "begins"),
    [
        (0.01, 0.05, "better", "Better"),
        (-0.05, -0.01, "worse", "Worse"),
        (-0.01, 0.05, "no difference", "No difference that can be shown"),
        (-0.05, 0.0, "no difference", "No difference that can be shown"),
    ],
)
def test_the_words_say_what_the_interval_says(low: float, high: float, finding: str, begins: str) -> None:
    difference = Interval((low + high) / 2, low, high, 50)
    assert finding_of(difference) == finding
    said = verdict(difference, "the start", 100)
    assert said.startswith(begins)
    assert f"{100 * low:+.1f} to {100 * high:+.1f}" in said


def test_without_labels_nothing_is_claimed_and_what_would_decide_is_said() -> None:
    assert finding_of(None) == "undecided"
    said = verdict(None, "the start", 100)
    assert said == "Not decidable without labels; 5 a class would decide it."
    assert "better" not in said.lower()
