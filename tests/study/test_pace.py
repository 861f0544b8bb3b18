"""What is set aside for the time after the last rung."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from fallow.study import reporting
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.clock import Clock
from fallow.study.pace import SHOWN_LEAST, Pace
from fallow.study.rung import ImageSet


def data(labeled: int = 40, pool: int = 5000, test: int = 300) -> Any:
    def ids(count: int, what: str) -> tuple[str, ...]:
        return tuple(f"{what}{i}" for i in range(count))

    return SimpleNamespace(
        labeled_ids=ids(labeled, "l"),
        pool_ids=ids(pool, "u"),
        test_ids=ids(test, "t"),
        extra_ids=(),
        images=lambda names: ImageSet(names, names, lambda name: None),  # type: ignore[arg-type,return-value]
    )


def pace(**sizes: int) -> Pace:
    return Pace(Clock(600.0), SimpleNamespace(data=data(**sizes)), 0.0)  # type: ignore[arg-type]


def test_a_network_is_paid_for_the_test_images_and_no_more_of_the_pool_than_the_report_must_show() -> None:
    assert pace().answers(0.1) == pytest.approx(0.1 * (300 + SHOWN_LEAST))
    assert pace(pool=50).answers(0.1) == pytest.approx(0.1 * 350)


def test_what_hardly_takes_time_is_done_though_the_time_is_up() -> None:
    late = Pace(Clock(0.0), SimpleNamespace(data=data()), 0.0)  # type: ignore[arg-type]
    assert late.holds(0.0)
    assert not late.holds(0.5)
    made = pace()
    assert made.holds(made.clock.left - made.report - 1)
    assert not made.holds(made.clock.left)


def trained(seconds: float) -> TrainedCandidate:
    made: Any = object.__new__(TrainedCandidate)
    made.asked = []

    def predict(images: ImageSet) -> None:
        made.asked.append(len(images))
        time.sleep(seconds * len(images))

    made.predict = predict
    found: TrainedCandidate = made
    return found


def shown(finals: dict[str, Any], seconds: float) -> ImageSet:
    known = data(pool=1000)
    ctx = SimpleNamespace(data=known, pool=known.images(known.pool_ids), config=SimpleNamespace(seed=0))
    return reporting._shown(SimpleNamespace(finals=finals), ctx, finals, seconds)  # type: ignore[arg-type]


def test_the_report_shows_as_much_of_the_pool_as_a_trained_network_answers_for_in_time() -> None:
    assert len(shown({"propagate": object()}, 0.0)) == 1000  # its vectors are there
    network = trained(1e-3)
    assert len(shown({"joint": network}, 0.0)) == SHOWN_LEAST
    assert sum(network.asked) < SHOWN_LEAST / 2  # type: ignore[attr-defined]
    some = shown({"joint": trained(1e-3)}, 0.4)
    assert SHOWN_LEAST <= len(some) <= 400
    assert list(some.ids) == sorted(some.ids, key=lambda name: int(name[1:]))
    assert len(shown({"joint": trained(1e-6)}, 60.0)) == 1000
