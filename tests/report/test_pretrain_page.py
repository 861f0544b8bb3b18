"""What the page of a pretraining run says with its colors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fallow.record import Interval
from fallow.record.pretrained import Judged, PretrainRecord
from fallow.report.pretrain_page import write_pretrain_report
from fallow.study.pretraining.verdict import finding_of

ONE = Judged(Interval(0.8, 0.7, 0.9, 50), 0.7, 20.0, 0.5)
RECORD = PretrainRecord(
    before=ONE,
    after=ONE,
    difference=None,
    finding="undecided",
    verdict="Not decidable: there are no labels.",
    leaves="trained",
    moved=0.3,
    drift=0.1,
    method="dino",
    backbone="small_resnet_8",
    init="scratch",
    trainable="all",
    size=16,
    images=100,
    judged=50,
    test=0,
    classes=3,
    steps=10,
    planned=10,
    batch=8,
    training_seconds=1.0,
    images_per_second=80.0,
    seconds=2.0,
    seed=0,
)


def figures(path: Path, difference: Interval | None) -> dict[str, str]:
    """Return the classes of each figure of the page."""
    write_pretrain_report(
        path, replace(RECORD, difference=difference, finding=finding_of(difference)), (), "photos"
    )
    found = re.findall(
        r'<dt>([^<]*)</dt><dd><span class="figure num ([^"]*)">', path.read_text(encoding="utf-8")
    )
    return dict(found)


@pytest.mark.parametrize(
    ("value", "low", "high", "tone"),
    [
        (0.03, 0.01, 0.05, "better"),
        (0.03, -0.01, 0.07, "neutral"),
        (-0.03, -0.07, 0.01, "neutral"),
        (-0.03, -0.05, -0.01, "worse"),
        (0.0, 0.0, 0.0, "neutral"),
    ],
)
def test_a_difference_has_the_color_that_its_interval_earns(
    tmp_path: Path, value: float, low: float, high: float, tone: str
) -> None:
    shown = figures(tmp_path / "page.html", Interval(value, low, high, 50))
    assert shown.pop("Linear probe, after less before") == tone
    assert set(shown.values()) == {"neutral"}


def test_without_labels_nothing_is_green(tmp_path: Path) -> None:
    assert set(figures(tmp_path / "page.html", None).values()) == {"neutral"}
