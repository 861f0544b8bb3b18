"""What may be embedded: by what is at hand, and by the time there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fallow.config import EmbedConfig
from fallow.data import audit, open_source
from fallow.models import Embedder, from_module, load_backbone
from fallow.record import DecisionLog
from fallow.study import plan as plan_module
from fallow.study.bank import SpaceBank
from fallow.study.clock import Clock
from fallow.study.data import StudyData
from fallow.study.plan import plan_spaces, pool_order
from tests.study.digits import write_digits


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(3).flatten(1)


@pytest.fixture
def data(tmp_path: Path) -> StudyData:
    folder = write_digits(tmp_path / "data", classes=(0, 1, 4, 7), pool=100)
    return StudyData.build(audit(open_source(str(folder))), 0, DecisionLog())


def bank(cache: Path) -> SpaceBank:
    return SpaceBank(EmbedConfig(), cache, offline=True, own=from_module(Mean(), size=8, name="own"))


def at_rate(monkeypatch: pytest.MonkeyPatch, rate: float, reading: float = 1e9) -> None:
    monkeypatch.setattr(Embedder, "rate", lambda self, size=None, seconds=1.0: rate)
    monkeypatch.setattr(Embedder, "reading_rate", lambda self, read, ids: reading)


@pytest.mark.parametrize(("seconds", "views"), [(600.0, "turns"), (12.0, "flip"), (6.0, "none")])
def test_as_many_views_as_fit_into_half_of_the_time(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, views: str
) -> None:
    at_rate(monkeypatch, 200.0)  # 436 images: about two seconds a view
    plan = plan_spaces(data, bank(tmp_path / "cache"), Clock(seconds), DecisionLog())
    assert plan.views == (views,)
    assert plan.pool == len(data.pool_ids)


def test_cached_vectors_cost_nothing(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rate(monkeypatch, 200.0)
    spaces = bank(tmp_path / "cache")
    everything = data.images((*data.labeled_ids, *data.pool_ids, *data.test_ids))
    spaces.pooled(spaces.space("own", 8, "turns"), everything)
    assert plan_spaces(data, bank(tmp_path / "cache"), Clock(6.0), DecisionLog()).views == ("turns",)


def test_some_of_the_pool_takes_part_however_short_the_time(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rate(monkeypatch, 1.0)
    decisions = DecisionLog()
    plan = plan_spaces(data, bank(tmp_path / "cache"), Clock(5.0), decisions)
    assert plan.pool == 100
    made = decisions.get("embed.budget")
    assert made is not None
    assert made.value == {"views": "none", "pool": 100}


@pytest.mark.parametrize("pool", ["none", "embedded already"])
def test_a_pool_that_takes_no_time_is_no_matter_of_time(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    at_rate(monkeypatch, 1.0)
    if pool == "none":
        data = replace(data, pool_ids=())
    spaces = bank(tmp_path / "cache")
    spaces.pooled(spaces.space("own", 8, "none"), data.images(data.pool_ids))
    assert plan_spaces(data, spaces, Clock(5.0), DecisionLog()).pool == len(data.pool_ids)


def test_reading_takes_its_time_beside_the_network(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rate(monkeypatch, 200.0)
    assert plan_spaces(data, bank(tmp_path / "cache"), Clock(12.0), DecisionLog()).views == ("flip",)
    at_rate(
        monkeypatch, 200.0, reading=200.0
    )  # reading as slow as the network: twice the time, for each view again
    assert plan_spaces(data, bank(tmp_path / "cache"), Clock(12.0), DecisionLog()).views == ("none",)
    monkeypatch.setattr(Embedder, "reading_overlaps", True)
    assert plan_spaces(data, bank(tmp_path / "cache"), Clock(12.0), DecisionLog()).views == ("flip",)


@pytest.mark.parametrize("ahead", ["the same images", "others"])
def test_a_pool_that_is_embedded_in_part_grows_by_what_the_cache_holds(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: str
) -> None:
    at_rate(monkeypatch, 50.0)
    first = plan_spaces(data, bank(tmp_path / "cache"), Clock(9.0), DecisionLog(), seed=3).pool
    order = pool_order(len(data.pool_ids), 3)
    done = order[:first] if ahead == "the same images" else order[-first:]
    spaces = bank(tmp_path / "cache")
    ids = (*data.labeled_ids, *data.test_ids, *(data.pool_ids[i] for i in done))
    spaces.pooled(spaces.space("own", 8, "none"), data.images(ids))
    again = plan_spaces(data, bank(tmp_path / "cache"), Clock(9.0), DecisionLog(), seed=3).pool
    assert 100 < first < again < len(data.pool_ids)
    new = set(order[:again].tolist()) - set(done.tolist())
    assert len(new) <= 50 * Clock(9.0).left / 2 + 1


def test_pixels_go_alone_when_there_is_no_time_for_the_backbone(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"photo": from_module(Mean(), size=8, name="photo"), "pixels": load_backbone("pixels")}
    monkeypatch.setattr(SpaceBank, "backbone", lambda self, name: known[name])
    monkeypatch.setattr(plan_module, "automatic_backbones", lambda audit, bank: (("photo", "pixels"), "both"))
    monkeypatch.setattr(
        Embedder, "rate", lambda self, size=None, seconds=1.0: 9e9 if self.backbone.name == "pixels" else 10.0
    )
    spaces = SpaceBank(EmbedConfig(), tmp_path / "cache", offline=True)
    decisions = DecisionLog()
    plan = plan_spaces(data, spaces, Clock(20.0), decisions)
    assert plan.backbones == ("pixels",)
    assert plan.pool == len(data.pool_ids)
    made = decisions.get("embed.backbone")
    assert made is not None
    assert made.value == "pixels"
    assert plan_spaces(data, spaces, Clock(600.0), DecisionLog()).backbones == ("photo", "pixels")


def test_what_was_asked_for_is_embedded_however_short_the_time(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"photo": from_module(Mean(), size=8, name="photo"), "pixels": load_backbone("pixels")}
    monkeypatch.setattr(SpaceBank, "backbone", lambda self, name: known[name])
    at_rate(monkeypatch, 10.0)
    spaces = SpaceBank(EmbedConfig(backbone="photo+pixels"), tmp_path / "cache", offline=True)
    decisions = DecisionLog()
    assert plan_spaces(data, spaces, Clock(20.0), decisions).backbones == ("photo", "pixels")
    made = decisions.get("embed.backbone")
    assert made is not None
    assert (made.value, made.pinned) == ("photo+pixels", True)


def test_a_backbone_of_one_size_gets_that_size(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rigid = replace(from_module(Mean(), size=24, name="rigid"), fixed_size=True)
    monkeypatch.setattr(SpaceBank, "backbone", lambda self, name: rigid)
    at_rate(monkeypatch, 500.0)
    spaces = SpaceBank(EmbedConfig(backbone="rigid"), tmp_path / "cache", offline=True)
    plan = plan_spaces(data, spaces, Clock(600.0), DecisionLog())
    assert plan.sizes == (24,)
    images = data.images(data.labeled_ids)
    assert spaces.pooled(spaces.space("rigid", 24, "none"), images).shape == (len(images), 72)


def test_the_plan_survives_json(data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rate(monkeypatch, 500.0)
    plan = plan_spaces(data, bank(tmp_path / "cache"), Clock(600.0), DecisionLog())
    assert type(plan).from_json(plan.to_json()) == plan


def test_pixels_for_want_of_weights_are_told_and_pixels_by_choice_are_not(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rate(monkeypatch, 500.0)
    spaces = SpaceBank(EmbedConfig(), tmp_path / "cache", offline=True)
    monkeypatch.setattr(plan_module, "candidate_backbones", lambda: ["pixels"])
    plan = plan_spaces(data, spaces, Clock(600.0), DecisionLog())
    assert plan.backbones == ("pixels",)
    assert "fallow[offline]" in plan_module.without_weights(plan, spaces)
    pinned = SpaceBank(EmbedConfig(backbone="pixels"), tmp_path / "cache", offline=True)
    assert plan_module.without_weights(plan, pinned) == ""
    monkeypatch.setattr(plan_module, "candidate_backbones", lambda: ["photo", "pixels"])
    assert plan_module.without_weights(plan, spaces) == ""
