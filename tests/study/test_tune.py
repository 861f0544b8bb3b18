"""What labels-only training searches: inside a fold's own labels, within its time, once, and never what was pinned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fallow
from fallow.engine import Diverged
from fallow.search import RateRange
from fallow.study import RUNGS
from fallow.study.context import RungContext
from fallow.study.data import plan_folds
from fallow.study.rung import Fold, Workload
from fallow.study.rungs import finetune
from fallow.study.trained import tune, tune_race
from fallow.study.trained.fit import Fit, mixing
from fallow.study.trained.network import network_plan
from fallow.study.trained.recipe import default_lr, searched
from fallow.study.trained.tune import DECAY, LR, MIX, STRENGTH, Found, TuningPlan, plan_tuning, tuning_of
from fallow.study.trained.tune_race import Search, held_out_loss
from tests.study.digits import (
    assert_same,
    context,
    decisions,
    figures,
    hasten,
    model,
    posteriors,
    write_digits,
)
from tests.study.test_leakage import with_other_labels
from tests.study.test_resume import Killed

SMALL: dict[str, Any] = {
    "optimization.steps": 3,
    "optimization.batch_size": 8,
    "optimization.unlabeled_ratio": 1,
    "network.backbone": "small_resnet_8",
    "choose.folds": 2,
    "choose.repeats": 1,
}
FAR = RateRange(None, None, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "data"
    return write_digits(folder, classes=(0, 1, 7), labels=8, pool=10, test=4)


@pytest.fixture(autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, tmp_path_factory.getbasetemp() / "tune-cache")
    shorten(monkeypatch)


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Search from a few labels, few values, on two parts."""
    patch.setattr(tune, "SEARCH_FROM", 8)
    patch.setattr(tune, "PARTS", 2)
    patch.setattr(tune_race, "PARTS", 2)
    patch.setattr(tune_race, "PROBE_STEPS", 4)
    patch.setattr(tune_race, "_LATE", 1e6)  # other processes of this machine are no matter of these tests
    patch.setattr(finetune, "searched", lambda ctx, plan: {LR: (0.006,), MIX: ("mixup",)})


def study(data: Path, out: Path, **options: Any) -> fallow.Result:
    """Train for a few steps a fit, or go on where a kill left it."""
    asked = {
        "rungs": "finetune",
        "offline": True,
        "budget": "10m",
        "show": "nothing",
        "set": {**SMALL, **options.pop("set", {})},
        "embed": {"backbone": "pixels"},
        "resume": (out / "config.yaml").is_file(),
        **options,
    }
    return fallow.train(str(data), out=out, **asked)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that searched and to which nothing happened."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch, tmp_path_factory.getbasetemp() / "tune-cache")
        shorten(patch)
        study(data, out)
    return out


@pytest.fixture
def ctx(data: Path, tmp_path: Path) -> RungContext:
    return context(data, tmp_path / "cache")


def found_on_disk(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "tuning.json").read_text())["found"]
    return found


def test_each_fold_and_the_refit_search_and_the_report_can_tell_what_was_compared(whole: Path) -> None:
    made = decisions(whole)
    assert made["finetune.search"]["value"] == 3
    assert set(found_on_disk(whole)) == {"0-0", "0-1", "final"}
    for name in (LR, MIX, STRENGTH):
        assert made[name]["source"] == "search"
        assert made[name]["evidence"]["gain_in_log_loss"]
    assert made[LR]["value"] == made["finetune.training"]["value"]["lr"]


def test_killed_once_it_planned_and_once_it_found_a_run_neither_plans_nor_searches_again(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, found = tune._keep, []

    def kept(ctx: RungContext) -> None:
        keep(ctx)
        found.append(sorted(tuning_of(ctx).found))
        if len(found) <= 2:
            raise Killed

    monkeypatch.setattr(tune, "_keep", kept)
    with pytest.raises(Killed):
        study(data, tmp_path / "run")
    monkeypatch.setattr(tune, "_planned", lambda *given: pytest.fail("planned again"))
    with pytest.raises(Killed):
        study(data, tmp_path / "run")
    study(data, tmp_path / "run")
    assert found == [[], ["0-0"], ["0-0", "0-1"], ["0-0", "0-1", "final"]]
    assert_same(whole, tmp_path / "run")


def test_done_again_from_its_config_a_study_takes_what_was_found(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_race, "race", lambda *given: pytest.fail("searched again"))
    fallow.train(str(data), config=whole / "config.yaml", out=tmp_path / "again", show="nothing")
    assert figures(tmp_path / "again") == figures(whole)
    assert posteriors(tmp_path / "again") == posteriors(whole)
    assert found_on_disk(tmp_path / "again") == found_on_disk(whole)
    for name, array in model(whole).items():
        np.testing.assert_array_equal(array, model(tmp_path / "again")[name], err_msg=name)


def test_pinned_values_are_never_searched(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_race, "race", lambda *given: pytest.fail("searched"))
    pinned = {LR: 0.003, DECAY: 0.2, STRENGTH: 0.7, MIX: "none"}
    study(data, tmp_path / "run", set=pinned)
    made = decisions(tmp_path / "run")
    assert made["finetune.search"]["value"] == "skipped"
    for name in (LR, DECAY, STRENGTH, MIX):
        assert (made[name]["value"], made[name]["source"], made[name]["pinned"]) == (
            pinned[name],
            "user",
            True,
        )


def test_a_pinned_rate_is_not_probed_and_in_no_candidate(ctx: RungContext) -> None:
    ctx.config.optimization.lr = 0.003
    ctx.scratch[tune._KEY] = tune.Tuning(TuningPlan(5, 2, 4, 60.0), "")
    seen: list[dict[str, Any]] = []
    search(ctx, lambda values: seen.append(values) or 0.9, probe=lambda own, n: pytest.fail("probed")).run()
    assert seen
    assert all(LR not in values for values in seen)


@pytest.mark.parametrize("number", [0, 1])
def test_the_held_out_labels_of_a_fold_change_nothing_that_it_finds(number: int, ctx: RungContext) -> None:
    fold = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[number]
    made = []
    for one in (ctx, with_other_labels(ctx, fold)):
        one.scratch[tune._KEY] = tune.Tuning(TuningPlan(3, 2, 3, 600.0), "")
        fitted = RUNGS["finetune"].fit(one, fold, {}, 3)
        made.append((tuning_of(one).found[fold.key], fitted.state()[0]))
    (found, tensors), (again, others) = made
    assert found == again
    assert found.evidence["gain_in_log_loss"]
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    assert set(tuning_of(ctx).found) == {fold.key}  # the folds inside it are forgotten


def test_other_labels_inside_the_fold_find_otherwise(ctx: RungContext) -> None:
    """The test above could not fail if no label mattered."""
    fold = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[0]
    found = []
    for one in (ctx, with_other_labels(ctx, Fold(0, 9, ctx.train_positions(fold)[::2]))):
        one.scratch[tune._KEY] = tune.Tuning(TuningPlan(3, 2, 3, 600.0), "")
        RUNGS["finetune"].fit(one, fold, {}, 3)
        found.append(tuning_of(one).found[fold.key])
    assert found[0] != found[1]


def search(ctx: RungContext, sure: Any, *, probe: Any = lambda own, n: FAR, lr: float = 0.002) -> Search:
    """Return a search whose fits give true classes a probability by the values, with noise that is each fit's own."""

    def train(own: RungContext, inner: Fold, steps: int) -> Any:
        values = dict(tuning_of(own).found[inner.key].values)
        best = sure(values)

        def predict(images: Any) -> Any:
            where = [own.data.labeled_ids.index(i) for i in images.ids]
            drawn = np.random.default_rng([*json.dumps(values).encode(), inner.repeat, inner.index])
            probs = np.full((len(where), 3), 0.0)
            right = np.clip(best + drawn.normal(0, 0.05, len(where)), 0.01, 0.99)
            probs[:] = ((1 - right) / 2)[:, None]
            probs[np.arange(len(where)), own.data.y[where]] = right
            return SimpleNamespace(probs=torch.from_numpy(probs))

        return SimpleNamespace(predict=predict)

    return Search(ctx, None, train, probe, searched(ctx, network_plan(ctx)), lr)


@pytest.mark.parametrize("seed", range(5))
def test_the_better_value_is_found_and_noise_leaves_the_default(seed: int, ctx: RungContext) -> None:
    ctx.config.seed = seed
    plan = TuningPlan(5, 2, 4, 600.0)
    ctx.scratch[tune._KEY] = tune.Tuning(plan, "")
    search(ctx, lambda values: 0.8 if values.get(STRENGTH) == 0.5 else 0.5).run()
    assert tuning_of(ctx).found["final"].values == {STRENGTH: 0.5}
    ctx.scratch[tune._KEY] = tune.Tuning(plan, "")
    search(ctx, lambda values: 0.5).run()
    assert tuning_of(ctx).found["final"].values == {}


def test_a_default_rate_at_which_the_loss_rises_is_lowered(ctx: RungContext) -> None:
    ctx.scratch[tune._KEY] = tune.Tuning(TuningPlan(5, 2, 4, 600.0), "")
    seen: list[dict[str, Any]] = []
    tried = lambda values: seen.append(values) or 0.5  # noqa: E731
    search(ctx, tried, probe=lambda own, n: RateRange(1e-4, 4e-4, 1e-3), lr=0.002).run()
    assert max(values[LR] for values in seen) == 5e-4
    assert tuning_of(ctx).found["final"].values == {LR: 5e-4}


def test_the_suggested_rate_is_tried_instead_of_the_rules_on_its_side(ctx: RungContext) -> None:
    ctx.scratch[tune._KEY] = tune.Tuning(TuningPlan(9, 2, 4, 600.0), "")
    seen: list[dict[str, Any]] = []
    tried = lambda values: seen.append(values) or 0.5  # noqa: E731
    search(ctx, tried, probe=lambda own, n: RateRange(1e-4, 1e-1, None), lr=0.0001).run()
    assert {values[LR] for values in seen if LR in values} == {1e-3, 0.002 / 3} or {
        values[LR] for values in seen if LR in values
    } == {1e-3}


def test_a_candidate_that_breaks_down_loses_and_the_search_goes_on(ctx: RungContext) -> None:
    def sure(values: dict[str, Any]) -> float:
        if values.get(DECAY):
            raise Diverged("the weights are no numbers")
        return 0.8 if MIX in values else 0.4

    ctx.scratch[tune._KEY] = tune.Tuning(TuningPlan(5, 2, 4, 600.0), "")
    search(ctx, sure).run()
    assert tuning_of(ctx).found["final"].values == {MIX: "mixup"}


def test_on_a_machine_that_is_much_slower_than_measured_the_default_stays_and_that_is_a_fact(
    ctx: RungContext,
) -> None:
    ctx.scratch[tune._KEY] = tune.Tuning(TuningPlan(5, 2, 4, -1e-9), "")
    search(ctx, lambda values: 0.8 if MIX in values else 0.4).run()
    found = tuning_of(ctx).found["final"]
    assert (found.values, "slower" in str(found.evidence["given_up"])) == ({}, True)


def test_a_search_has_a_third_of_the_rungs_time_and_says_what_it_would_need(ctx: RungContext) -> None:
    axes = searched(ctx, network_plan(ctx))
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[:2]
    taken = []
    for seconds in (10.0, 170.0, 250.0, 1000.0):
        ctx.scratch.pop(tune._KEY, None)
        taken.append(plan_tuning(ctx, seconds, 0.02, 100, folds, axes))
        assert taken[-1] <= seconds / 3
        plan = tuning_of(ctx).plan
        assert (plan is None) == (taken[-1] == 0.0)
        assert plan_tuning(ctx, 1e6, 0.02, 100, folds, axes) == taken[-1]  # planned once
    assert taken[0] == 0.0 < taken[1] < taken[2] < taken[3]
    ctx.scratch.pop(tune._KEY)
    plan_tuning(ctx, 10.0, 0.02, 100, folds, axes)
    made = ctx.decisions.get("finetune.search")
    assert made is not None
    assert made.value == "skipped"
    assert "33% of the rung's time is 3 s" in made.rule


def test_few_labels_are_not_searched(ctx: RungContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "SEARCH_FROM", 100)
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[:2]
    workload = Workload(5, 5, 5)
    assert RUNGS["finetune"].prepare(ctx, 1e6, 0.01, workload, folds) == 0.0
    made = ctx.decisions.get("finetune.search")
    assert made is not None
    assert made.rule.startswith("Below 100 labels in a fold the defaults")
    RUNGS["finetune"].fit(ctx, None, {}, 2)
    lr = ctx.decisions.get(LR)
    assert lr is not None
    assert (lr.source, lr.rule) == ("rule", made.rule)


def test_what_a_fold_found_counts_for_all_its_trained_rungs_and_for_no_other_fold(ctx: RungContext) -> None:
    values = {LR: 0.01, DECAY: 0.3, STRENGTH: 0.5, MIX: "mixup"}
    tuning_of(ctx).found["final"] = Found(values)  # type: ignore[arg-type]
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)
    for joint in (False, True):
        own, other = Fit.of(ctx, None, joint=joint), Fit.of(ctx, folds[0], joint=joint)
        assert (own.settings(10).lr, own.settings(10).weight_decay) == (0.01, 0.3)
        assert other.settings(10).lr == default_lr(network_plan(ctx))
        assert repr(own.changes["strong"]) != repr(other.changes["strong"])
        assert repr(own.changes["weak"]) == repr(other.changes["weak"])
    assert mixing(ctx, None) is not None
    assert mixing(ctx, folds[0]) is None
    ctx.config.optimization.lr, ctx.config.augment.mix = 0.02, "none"
    assert Fit.of(ctx, None, joint=False).settings(10).lr == 0.02
    assert mixing(ctx, None) is None


def test_a_network_that_is_only_more_or_less_sure_of_itself_has_the_same_loss() -> None:
    drawn = np.random.default_rng(0)
    logits = drawn.normal(0, 1, (200, 4))
    labels = np.array([drawn.choice(4, p=np.exp(row) / np.exp(row).sum()) for row in logits])

    def probs(sharper: float) -> np.ndarray:
        raised = np.exp(sharper * logits)
        return np.asarray(raised / raised.sum(1, keepdims=True))

    plain, sharp = held_out_loss(probs(1.0), labels), held_out_loss(probs(2.0), labels)
    assert abs(plain.mean() - sharp.mean()) < 0.02
    raw = -np.log(probs(2.0)[np.arange(200), labels])
    assert raw.mean() > plain.mean() + 0.1


def test_without_a_plan_nothing_is_searched(ctx: RungContext) -> None:
    probe = lambda own, n: pytest.fail("probed")  # noqa: E731
    search(replace(ctx), lambda values: pytest.fail("tried"), probe=probe).run()
    assert tuning_of(ctx).found == {}
