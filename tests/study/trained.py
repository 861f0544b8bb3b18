"""Whole studies that train networks, small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fallow
from fallow.study.judge import Judge, Judgment
from tests.study.digits import TRAINED, write_digits

SMALL: dict[str, Any] = {
    "optimization.steps": 5,
    "optimization.batch_size": 8,
    "optimization.unlabeled_ratio": 1,
    "network.backbone": "small_resnet_8",
    "choose.folds": 2,
    "choose.repeats": 1,
}


def write(folder: Path) -> Path:
    """Write what they train on."""
    return write_digits(folder, classes=(0, 1, 7), labels=4, pool=10, test=4)


def study(data: Path, out: Path, *, rungs: str = f"propagate,{TRAINED}", **options: Any) -> fallow.Result:
    """Train for a few steps a fit, or go on where a kill left it."""
    asked = {
        "offline": True,
        "budget": "10m",
        "show": "nothing",
        "set": {**SMALL, **options.pop("set", {})},
        "embed": {"backbone": "pixels"},
        "resume": (out / "config.yaml").is_file(),
        **options,
    }
    return fallow.train(str(data), out=out, rungs=rungs, **asked)


def replay(data: Path, run: Path, out: Path) -> fallow.Result:
    return fallow.train(str(data), config=run / "config.yaml", out=out, show="nothing")


def prefer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a rung win whatever the figures say."""
    judge = Judge.judge

    def judged(self: Judge, info: Any, *given: Any) -> Judgment:
        made = judge(self, info, *given)
        return Judgment(**{**vars(made), "wins": info.name in ("probe", name)})

    monkeypatch.setattr(Judge, "judge", judged)
