"""Training on kept maps of a frozen trunk: what it changes, what it sees, and what it must not see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import fallow.study.trained.maps as maps_module
from fallow.config import EmbedConfig, NetworkConfig, OptimizationConfig, TrainConfig, build
from fallow.data import WithExtra, audit, open_source
from fallow.engine import Loop, MapFeed, Place, TwoSheets
from fallow.methods import Supervised, Views
from fallow.models import TailNetwork, create_backbone, from_module
from fallow.record import DecisionLog
from fallow.study.bank import SpaceBank
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.data import StudyData, plan_folds
from fallow.study.effort import Effort
from fallow.study.plan import SpacePlan
from fallow.study.replay import config_text, followed
from fallow.study.rung import Fold, Workload
from fallow.study.rungs import RUNGS
from fallow.study.trained.fit import Fit
from fallow.study.trained.map_plan import MapPlan, Speed, followed_maps, known_plan, make_plan, recall_maps
from fallow.study.trained.maps import MapBank
from tests.study.digits import context, fit, write_digits

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"), labels=4, pool=10)


@pytest.fixture
def ctx(data: Path, tmp_path: Path) -> RungContext:
    return study(data, tmp_path)


def study(data: Path, cache: Path, views: int | str = 2, views_of_the_plan: str = "turns") -> RungContext:
    """Return what rungs look at where a network with weights stands at hand, of which the last blocks are trained."""
    ctx = context(data, cache / "cache")
    network = create_backbone("test_efficientnet", size=SIZE, seed=3)
    own = from_module(network.module, size=SIZE, name="photos")
    config = ctx.config.model_copy(
        update={
            "embed": EmbedConfig(),
            "network": NetworkConfig(views=views),  # type: ignore[arg-type]
            "optimization": OptimizationConfig(batch_size=8, unlabeled_ratio=1, optimizer="sgd", lr=1e-3),
        }
    )
    plan = SpacePlan(("photos",), (SIZE,), (views_of_the_plan,), len(ctx.data.pool_ids))  # type: ignore[arg-type]
    bank = SpaceBank(config.embed, cache / "cache", offline=True, own=own)
    (cache / "run").mkdir(exist_ok=True)
    return replace(ctx, config=config, bank=bank, plan=plan, folder=cache / "run", scratch={})


def loop_of(made: Fit, steps: int = 4, place: Place | None = None) -> Loop:
    rung = RUNGS["finetune"]
    network = rung.network(made, {})  # type: ignore[attr-defined]
    torch.nn.init.normal_(network.head.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    method = Supervised(made.ctx.task)
    return made.loop(network, method, made.settings(steps), title="", place=place)


def bank_in(ctx: RungContext) -> MapBank:
    (found,) = [value for value in ctx.scratch.values() if isinstance(value, MapBank)]
    return found


def test_on_maps_of_untouched_images_a_network_learns_what_it_learns_on_the_images(
    data: Path, tmp_path: Path
) -> None:
    learned = []
    for views in (0, 1):
        ctx = study(data, tmp_path, views)
        loop = loop_of(replace(Fit.of(ctx, None, joint=False), changes={}))
        assert isinstance(loop.feed, MapFeed) == bool(views)
        learned.append(loop.run().network.whole().state_dict())
    start = ctx.bank.backbone("photos").module.state_dict()
    moved = [key for key in start if not torch.equal(start[key], learned[0][key])]
    assert moved
    for key in start:
        torch.testing.assert_close(learned[1][key], learned[0][key], atol=2e-4, rtol=2e-3)
        assert torch.equal(learned[1][key], start[key]) == (key not in moved), key


def test_a_candidate_trained_on_maps_is_a_whole_network_whose_trunk_is_as_it_was(ctx: RungContext) -> None:
    candidate = fit(ctx, None, "joint")
    assert isinstance(candidate, TrainedCandidate)
    (network,) = candidate.networks.values()
    start, now = ctx.bank.backbone("photos").module.state_dict(), network.module.state_dict()
    changed = {
        key.split(".")[1] + "." + key.split(".")[2] for key in start if not torch.equal(start[key], now[key])
    }
    assert {"blocks.3", "blocks.4"} <= changed
    assert not changed & {"blocks.0", "blocks.1", "blocks.2", "conv_stem.weight"}
    assert candidate.predict(ctx.labeled).probs.shape == (len(ctx.data.y), len(ctx.data.classes))


def test_what_a_trained_network_says_of_the_pool_is_read_off_the_maps(ctx: RungContext) -> None:
    candidate = fit(ctx, None, "joint")
    assert isinstance(candidate, TrainedCandidate)
    made = Fit.of(ctx, None, joint=True)
    untouched = replace(
        made, changes={"weak": lambda images, generator: (images, torch.eye(2, 3).repeat(len(images), 1, 1))}
    )
    (space,) = candidate.classifier.spaces
    plain = replace(space, views="none")
    (branch,) = candidate.classifier.branches
    candidate.classifier.branches = [replace(branch, space=plain)]
    expected = candidate.predict(ctx.pool).probs
    torch.testing.assert_close(untouched.pool_probs(candidate), expected, atol=5e-3, rtol=0)
    assert float((made.pool_probs(candidate) - expected).abs().max()) > 5e-3  # weakly noised views


@pytest.mark.parametrize("rung", ["joint", "noisy_student"])
def test_the_held_out_labels_of_a_fold_change_nothing_that_training_on_maps_produces(
    rung: str, data: Path, tmp_path: Path
) -> None:
    ctx = study(data, tmp_path, "auto")
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[:2]
    for fold in folds:
        y = ctx.data.y.copy()
        y[fold.held_out] = (y[fold.held_out] + 1) % len(ctx.data.classes)
        other = replace(ctx, data=replace(ctx.data, y=y), scratch={})
        states = [fit(one, fold, rung).state()[0] for one in (ctx, other)]
        assert bank_in(ctx).sheets
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            assert value.tobytes() == states[1][name].tobytes(), name


def test_folds_with_the_same_noise_share_maps_and_others_have_their_own(ctx: RungContext) -> None:
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)
    for fold in (*folds[:3], None):
        ctx.scratch[ctx.scratch_key(fold), "spaces"] = (ctx.bank.space("photos", SIZE, "flip"),)
        loop_of(Fit.of(ctx, fold, joint=False))
    made = bank_in(ctx).sheets
    assert len(made) == 1
    alone: Fold = folds[3]
    ctx.scratch[ctx.scratch_key(alone), "spaces"] = (ctx.bank.space("photos", SIZE, "turns"),)
    own = loop_of(Fit.of(ctx, alone, joint=False))
    assert len(made) == 2
    fresh = replace(
        ctx, scratch={(ctx.scratch_key(alone), "spaces"): ctx.scratch[ctx.scratch_key(alone), "spaces"]}
    )
    again = loop_of(Fit.of(fresh, alone, joint=False))
    for one, other in zip(own.feed.batch(0).labeled, again.feed.batch(0).labeled, strict=True):
        assert torch.equal(one, other)  # as if the fold were alone


def test_an_interrupted_fit_on_maps_goes_on_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    whole = loop_of(Fit.of(study(data, tmp_path), None, joint=False)).run()
    place = Place(tmp_path / "fit")
    first = loop_of(Fit.of(study(data, tmp_path), None, joint=False), place=place)
    first.run(lambda step, seconds: step == 2)
    first.save(2, {})
    second = loop_of(Fit.of(study(data, tmp_path), None, joint=False), place=place).run()
    assert isinstance(second.network, TailNetwork)
    state = second.network.whole().state_dict()
    for key, tensor in whole.network.whole().state_dict().items():  # type: ignore[operator]
        assert torch.equal(tensor, state[key]), key


def test_maps_too_large_for_memory_lie_in_a_file_that_ends_with_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    for limit in (1 << 30, 0):
        monkeypatch.setattr(maps_module, "_IN_MEMORY", limit)
        ctx = study(data, tmp_path)
        batches.append(loop_of(Fit.of(ctx, None, joint=False)).feed.batch(0).labeled[0])
        (sheet,) = bank_in(ctx).sheets.values()
        assert isinstance(sheet.maps, np.memmap) == (limit == 0)
    assert torch.equal(*batches)
    assert not list((tmp_path / "cache" / "maps").iterdir())


def test_how_many_views_are_kept_is_decided_once_and_taken_up_by_a_run_that_goes_on(
    data: Path, tmp_path: Path
) -> None:
    ctx = study(data, tmp_path, "auto")
    loop_of(Fit.of(ctx, None, joint=False))
    plan, made = known_plan(ctx), ctx.decisions.get("network.views")
    assert plan is not None
    assert made is not None
    assert (made.value, plan.views, plan.pool) == (4, 4, len(ctx.pool))
    late = study(data, tmp_path, "auto")
    late.clock = Clock(0.01)
    recall_maps(late)
    assert known_plan(late) == plan
    assert late.decisions.get("network.views") == made
    follows = study(data, tmp_path / "cache", "auto")
    follows.config.replay.maps = followed_maps(ctx)
    assert known_plan(follows) == plan


def test_views_that_are_asked_for_win_over_those_of_the_run_that_is_followed(
    data: Path, tmp_path: Path
) -> None:
    ctx = study(data, tmp_path, "auto")
    loop_of(Fit.of(ctx, None, joint=False))
    for views, plan in ((3, None), (4, known_plan(ctx))):
        follows = study(data, tmp_path, views)
        follows.config.replay.maps = followed_maps(ctx)
        assert known_plan(follows) == plan
    part = {
        **followed_maps(ctx),
        "pool": 7,
    }  # too little time for all of the pool; who asks for views has all of it
    for views, pool in ((4, len(ctx.pool)), ("auto", 7)):
        follows = study(data, tmp_path, views)
        follows.config.replay.maps = part
        loop_of(Fit.of(follows, None, joint=False))
        plan = known_plan(follows)
        assert plan is not None
        assert (plan.views, plan.pool) == (4, pool)


@pytest.mark.parametrize("views", [3, "auto"])
def test_only_views_that_were_asked_for_are_pinned_for_other_data(
    views: int | str, data: Path, tmp_path: Path
) -> None:
    ctx = study(data, tmp_path, views)
    loop_of(Fit.of(ctx, None, joint=False))
    text = config_text(
        ctx.config, ctx.decisions, "these", ctx.plan, {}, {}, followed_maps(ctx), {}, ("probe", "finetune")
    )
    written = build(TrainConfig, yaml.safe_load(text))
    assert followed(written, "others").network.views == views
    assert not followed(written, "others").replay.maps
    assert followed(written, "these").replay.maps == followed_maps(ctx)


@pytest.mark.parametrize(("left", "views"), [(600.0, 4), (30.0, 1)])
def test_views_and_pool_shrink_with_the_time_that_is_left(left: float, views: int, tmp_path: Path) -> None:
    ctx = study(write_digits(tmp_path / "data", labels=2, pool=60), tmp_path, "auto")
    ctx.clock = Clock(left)
    speed = Speed(seconds=0.05, largest=5.0, values=1000)
    plan = make_plan(ctx, speed)
    known, pool = len(ctx.data.y) * 2 * plan.labeled, plan.pool * (plan.views + max(1, plan.views // 2))
    assert plan.views == views
    assert plan.half
    assert (plan.pool == len(ctx.pool)) == (left > 100)
    assert (known + pool) * speed.seconds <= 0.25 * ctx.clock.left + 0.1 or plan.pool == 100
    assert not make_plan(ctx, replace(speed, largest=5e4)).half


class Round(nn.Module):
    """All of it in one part."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.filters(x).mean((2, 3))
        return found


def test_a_network_that_cannot_be_cut_is_trained_on_images_and_the_report_says_why(ctx: RungContext) -> None:
    ctx.bank = SpaceBank(
        ctx.config.embed, ctx.bank.cache, offline=True, own=from_module(Round(), size=SIZE, name="photos")
    )
    loop = loop_of(Fit.of(ctx, None, joint=False))
    assert not isinstance(loop.feed, MapFeed)
    made = ctx.decisions.get("network.views")
    assert made is not None
    assert made.value == 0
    assert "no part of the network stands still" in made.rule


def test_maps_are_paid_for_once_by_the_rung_that_makes_them(ctx: RungContext) -> None:
    cost = RUNGS["finetune"].estimate(ctx)
    assert cost.once > 0
    assert not bank_in(ctx).sheets  # a step is measured without them
    loop_of(Fit.of(ctx, None, joint=False))
    assert RUNGS["finetune"].estimate(ctx).once == 0
    work = Workload(10, 100, 1000)
    alone = Effort("joint", 100.0, 0.1, work, 4).plan()
    shared = Effort("joint", 100.0, 0.1, work, 4, once=50.0).plan()
    assert alone.steps is not None
    assert shared.steps is not None
    assert alone.steps * (alone.folds + 1) == pytest.approx(2 * shared.steps * (shared.folds + 1), rel=0.1)
    assert Effort("joint", 100.0, 0.1, work, 4, once=99.0).plan().skipped


def test_the_plan_counts_views_by_strength() -> None:
    plan = MapPlan(5, 16, 100)
    assert [plan.count("strong", False), plan.count("weak", False), plan.count("none", False)] == [5, 2, 1]
    assert [plan.count("strong", True), plan.count("weak", True)] == [16, 16]


def test_extra_images_have_maps_of_their_own_and_those_without_are_made_up_for(
    data: Path, tmp_path: Path
) -> None:
    alone = study(data, tmp_path)
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    source = WithExtra(open_source(str(data)), open_source((images, [*"0147"] * 5)))
    ctx = replace(alone, data=StudyData.build(audit(source), 0, DecisionLog()), scratch={})
    ctx.config.extra.weight = 3.0
    made = Fit.of(ctx, None, joint=True)
    labels, first = len(ctx.data.y), len(ctx.data.y) + len(ctx.data.pool_ids)
    bank = made.bank(RUNGS["joint"].network(made, {}))  # type: ignore[attr-defined]
    assert bank is not None
    assert bank.plan.extra == 20
    bank.plan = replace(bank.plan, extra=8)
    material, views = bank.mapped(made.material), Views(("weak",), ("strong",))
    theirs = material.labeled[labels:] - first
    assert sorted(ctx.data.extra_y[theirs.numpy()].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert material.targets[labels:].tolist() == ctx.data.extra_y[theirs.numpy()].tolist()
    assert material.labeled_weights is not None
    assert float(material.labeled_weights[labels:].sum()) == pytest.approx(3.0 * labels)
    found = bank.maps(material, made.changes, views).labeled["weak"]
    assert isinstance(found, TwoSheets)
    assert len(found.take(material.labeled, torch.Generator().manual_seed(0))[0]) == labels + 8
    # The maps of the labels are those that they have without extra images.
    other = Fit.of(alone, None, joint=True)
    plain = other.bank(RUNGS["joint"].network(other, {}))  # type: ignore[attr-defined]
    assert plain is not None
    kept = plain.maps(other.material, other.changes, views).labeled["weak"]
    np.testing.assert_array_equal(found.before.maps, kept.maps)
