"""The student is the largest that keeps the limits, and what was seen is written down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fallow.config import DistillConfig
from fallow.errors import ConfigError
from fallow.models import Backbone, create_backbone
from fallow.record import DecisionLog
from fallow.study.distilling import student
from fallow.study.distilling.student import choose_student

IMAGE = np.zeros((16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def timed_by_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a small network take a tenth of a millisecond for each channel of its width."""

    def latency(backbone: Backbone, *rest: object) -> float:
        return int(backbone.name.rsplit("_", 1)[1]) / 10

    monkeypatch.setattr(student, "_latency", latency)


def choose(
    tmp_path: Path, log: DecisionLog | None = None, teacher_ms: float = 9.9, **asked: object
) -> student.Student:
    return choose_student(
        DistillConfig(teacher="t", offline=True, **asked),
        side=16,
        classes=("a", "b"),
        teacher_ms=teacher_ms,
        image=IMAGE,
        decisions=DecisionLog() if log is None else log,
        cache=tmp_path,
    )


@pytest.mark.parametrize("limit", [0.5, 8.0, 9.5, 11.0, 14.0, 60.0])
def test_sizes_that_must_be_too_slow_are_not_timed_and_the_choice_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    """A network takes 1 ms for each 4,096 pixels, and reading takes it 3 ms."""
    timed: list[int] = []

    def latency(backbone: Backbone, size: int, *rest: object) -> float:
        timed.append(size)
        return 3 + size**2 / 4096

    monkeypatch.setattr(student, "_latency", latency)
    monkeypatch.setattr(student, "candidate_backbones", lambda: ["resnet18"])
    monkeypatch.setattr(student, "load_backbone", lambda name, **how: create_backbone(name, size=224))

    def chosen() -> int | str:
        timed.clear()
        log = DecisionLog()
        try:
            return choose_student(
                DistillConfig(teacher="t", offline=True, latency_ms=limit),
                side=256,
                classes=("a", "b"),
                teacher_ms=99.0,
                image=IMAGE,
                decisions=log,
                cache=tmp_path,
            ).size
        except ConfigError as error:
            return str(error)

    made, few = chosen(), list(timed)
    monkeypatch.setattr(student, "_too_slow", lambda *given: False)
    assert chosen() == made
    if limit == 8.0:
        assert (few, timed) == ([224, 160, 128], [224, 192, 160, 128])


def test_without_a_limit_it_is_the_largest_that_is_three_times_as_fast(tmp_path: Path) -> None:
    assert choose(tmp_path).backbone == "small_resnet_32"
    assert choose(tmp_path, teacher_ms=7.3).backbone == "small_resnet_24"


def test_limits_on_time_and_size_both_count(tmp_path: Path) -> None:
    log = DecisionLog()
    made = choose(tmp_path, log, latency_ms=4.8, max_params="200k")
    assert made.params <= 200_000
    assert made.latency_ms <= 4.8
    decision = log.get("student")
    assert decision is not None
    assert decision.value == {"network": made.backbone, "size": 16}
    assert "4.8 ms" in decision.rule
    assert "200,000" in decision.rule


def test_what_was_named_is_taken_without_a_limit_and_refused_beyond_one(tmp_path: Path) -> None:
    named = {"student": "small_resnet_64", "size": 12}
    assert choose(tmp_path, network=named).size == 12
    with pytest.raises(
        ConfigError, match=r"within 2 ms: the fastest at hand is small_resnet_64 at 12 px with 6\.4 ms"
    ):
        choose(tmp_path, network=named, latency_ms=2)


def test_a_limit_that_nothing_keeps_names_what_comes_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"small_resnet_8 at 16 px with 0\.8 ms; raise --latency-ms"):
        choose(tmp_path, latency_ms=0.1)
    with pytest.raises(ConfigError, match="so few weights: the smallest at hand is small_resnet_8"):
        choose(tmp_path, max_params="1k")


@pytest.mark.parametrize("text", ["0", "-3", "many", "3X", ""])
def test_a_number_of_weights_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="500k or 3M"):
        DistillConfig(teacher="t", max_params=text)


def test_numbers_of_weights_are_read_as_people_write_them() -> None:
    assert [DistillConfig(max_params=t).most_params for t in ("500k", "3M", "1200000")] == [
        500_000,
        3_000_000,
        1_200_000,
    ]
