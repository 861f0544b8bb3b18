"""Views are decided by what they do to the images, whatever backbone looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fallow.study import spaces
from fallow.study.spaces import ViewTrust, decide_views, measure_trust, spaces_of
from tests.study.digits import context, write_digits


@pytest.mark.parametrize(
    ("flip", "turns", "views"),
    [(0.99, 0.9, "turns"), (0.99, 0.5, "flip"), (0.5, 0.99, "none"), (0.0, 0.0, "none")],
)
def test_turns_need_flips_to_be_safe_too(flip: float, turns: float, views: str) -> None:
    assert ViewTrust("any", 0.8, flip, turns).views == views


def test_mirrored_digits_lose_their_class_in_the_pixels(tmp_path: Path) -> None:
    ctx = context(write_digits(tmp_path / "data", classes=(2, 3, 4, 5, 6, 7), pool=40), tmp_path / "cache")
    trust = measure_trust(ctx, None, "pixels", 8, "turns")
    assert trust.base > 0.5
    assert trust.flip < 0.6
    assert trust.turns < 0.6
    assert trust.views == "none"


def test_one_embedding_that_objects_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(write_digits(tmp_path / "data"), tmp_path / "cache")
    ctx.plan = replace(ctx.plan, backbones=("photo", "pixels"), sizes=(96, 8), views=("turns", "none"))
    seen = {"photo": ViewTrust("photo", 0.9, 0.97, 0.95), "pixels": ViewTrust("pixels", 0.6, 0.2, 0.1)}
    monkeypatch.setattr(spaces, "measure_trust", lambda ctx, fold, name, size, allowed: seen[name])
    value, decision = decide_views(ctx, None)
    assert value == "none"
    assert decision.evidence["seen_by"] == "pixels"
    seen["pixels"] = ViewTrust("pixels", 0.6, 0.95, 0.2)
    assert decide_views(ctx, None)[0] == "flip"


def test_pixels_are_averaged_over_no_views_unless_asked(tmp_path: Path) -> None:
    ctx = context(write_digits(tmp_path / "data"), tmp_path / "cache")
    assert [space.views for space in spaces_of(ctx, None)] == ["none"]
