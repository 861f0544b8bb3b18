"""A budget that holds no lesson is refused before the teacher is asked about everything."""

from __future__ import annotations

import pytest

import fallow.study.distilling.plan as plan
from fallow.config import DistillConfig
from fallow.errors import ConfigError
from fallow.study.clock import Clock
from fallow.study.distilling.plan import check_time, reserve
from fallow.study.distilling.student import Student


def test_a_budget_that_the_teachers_answers_alone_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "cores", lambda: 2)
    config = DistillConfig(teacher="t", budget="2m")
    check_time(config, Clock(120.0), 1_000, 100.0, after=60.0)  # 50 s by two cores
    with pytest.raises(
        ConfigError, match=r"budget of 2m leaves nothing .* 100 s or more for 2,000 images, .* 60 s: give"
    ):
        check_time(config, Clock(120.0), 2_000, 100.0, after=60.0)
    asked = DistillConfig(teacher="t", budget="2m", optimization={"steps": 50})
    check_time(asked, Clock(120.0), 2_000, 100.0, after=60.0)


def test_what_comes_after_learning_counts_both_models_and_the_images_that_tell_ranges() -> None:
    small = Student("small_resnet_8", 16, 1_000, latency_ms=10.0)
    whole, alone = (DistillConfig(teacher="t", no_int8=off) for off in (False, True))
    assert reserve(alone, small, 100, 50.0) == pytest.approx(8 + 100 * 0.06)
    assert reserve(whole, small, 100, 50.0) == pytest.approx(8 + 100 * 0.07 + 100 * 3 * 0.01)
