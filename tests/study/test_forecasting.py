"""A forecast: planted laws are found, intervals cover, and nothing that is scored on a label has seen it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from fallow.config.forecast import ForecastConfig
from fallow.study.data import plan_folds
from fallow.study.forecasting import LawPrior, fit_law, forecast_curves, learn, prior_of, tell, too_little
from fallow.study.forecasting.forecast import Forecasted, _worth, rounded
from fallow.study.forecasting.measure import fit_part, measure, parts_of, steadied
from fallow.study.forecasting.power import Law
from fallow.study.inputs import FrozenInputs
from tests.study.digits import context, write_digits

WIDE = LawPrior(None, 0.5, 0.35, 0.0, 0.3, 0.02, 0.0, 0.0, 1.0)
"""A prior that leaves the exponent to what was measured."""


def test_parts_of_labels_are_nested_and_leave_no_class_without_a_label() -> None:
    y = np.repeat(np.arange(4), [40, 12, 3, 1])
    parts = parts_of(y, seed=3)
    assert len(parts) == 3
    for larger, smaller in pairwise(parts):
        assert not (smaller & ~larger).any()
        assert smaller.sum() * 1.5 <= larger.sum()
    for part in parts:
        assert (np.bincount(y[part], minlength=4) >= 1).all()
    assert np.bincount(y[parts[1]]).tolist() == [20, 6, 2, 1]


def test_parts_that_would_say_the_same_twice_are_left_out() -> None:
    assert len(parts_of(np.arange(10), seed=0)) == 1


@pytest.mark.parametrize("exponent", [0.2, 0.5, 0.8])
def test_a_planted_power_law_is_found(exponent: float) -> None:
    sizes = np.array([1000.0, 500.0, 250.0, 125.0])
    errors = 0.1 * (sizes / 1000) ** -exponent
    images = 200_000
    law = fit_law(sizes, errors, np.diag(errors * (1 - errors) / images), images, 1000, WIDE)
    assert np.median(law.exponent) == pytest.approx(exponent, abs=0.05)
    assert law.quantiles(4000)[0] == pytest.approx(0.1 * 4**-exponent, rel=0.06)


def test_a_curve_that_may_be_bent_says_less_of_what_comes_by_how_it_fell_before() -> None:
    sizes = np.array([1000.0, 500.0, 250.0])
    errors = 0.1 * (sizes / 1000) ** -0.9
    covariance = np.diag(errors * (1 - errors) / 20_000)
    straight, bent = (
        fit_law(sizes, errors, covariance, 20_000, 1000, replace(WIDE, bend=bend)) for bend in (0.0, 0.5)
    )
    assert np.median(straight.exponent) == pytest.approx(0.9, abs=0.08)
    assert np.median(bent.exponent) < np.median(straight.exponent) - 0.1
    assert np.std(bent.exponent) > 1.5 * np.std(straight.exponent)
    assert bent.quantiles(1000)[0] == pytest.approx(0.1, rel=0.05)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    prior, images = LawPrior(None, 0.5, 0.35, -0.1, 0.08, 0.02, 0.0, 0.0, 1.0), 150
    held = []
    for seed in range(120):
        level = np.exp(rng.uniform(np.log(0.05), np.log(0.4)))
        c = abs(0.35 - 0.1 * np.log(level / 0.1) + 0.08 * rng.standard_normal())
        sizes = np.array([160.0, 80.0, 40.0])
        errors = rng.binomial(images, np.minimum(level * (sizes / 200) ** -c, 0.95)) / images
        law = fit_law(
            sizes, errors, np.diag(np.maximum(errors * (1 - errors), 1e-6) / images), images, 200, prior, seed
        )
        _, low, high = law.quantiles(800)
        held.append(low <= level * 4**-c <= high)
    assert 0.7 <= np.mean(held) <= 0.92


def test_an_interval_widens_with_how_far_one_looks_ahead_and_no_error_is_not_no_error() -> None:
    sizes, images = np.array([80.0, 40.0, 20.0]), 100
    law = fit_law(sizes, np.array([0.0, 0.01, 0.03]), np.zeros((3, 3)), images, 100, WIDE)
    widths = []
    for labels in (100, 400, 1600):
        middle, low, high = law.quantiles(labels)
        assert 0 < low < middle < high
        widths.append(np.log(high / low))
    assert widths == sorted(widths)


def test_none_wrong_among_few_leaves_open_what_a_binomial_does() -> None:
    for images in (24, 36, 100):
        law = fit_law(np.array([0.8 * images]), np.zeros(1), np.zeros((1, 1)), images, images, WIDE)
        _, low, high = law.quantiles(images)
        exact = float(beta.ppf(0.9, 0.5, images + 0.5))  # Jeffreys' interval
        assert 0 < low < exact / 5
        assert exact / 2 < high < 2 * exact


def test_what_unlabeled_images_are_worth_is_read_off_the_curve_that_is_told() -> None:
    probe = Law(100.0, np.full(9, 0.2), np.full(9, 0.5), np.zeros(9), np.zeros(9), 0.0)
    curves = forecasted(probe, replace(probe, level=np.full(9, 0.1)))
    worth, note = _worth(curves, 100)
    assert worth == pytest.approx(300, abs=2)  # 0.2 (400 / 100)^-0.5 = 0.1
    assert worth is not None
    assert probe.quantiles(100 + worth)[0] == pytest.approx(0.1, rel=0.01)
    assert "labels only" in note
    far = _worth(forecasted(probe, replace(probe, level=np.full(9, 0.01))), 100)
    assert far == (700, "or more: further no law is to be trusted")
    assert _worth(forecasted(probe, probe), 100)[0] == 0


def forecasted(probe: Law, propagate: Law) -> Forecasted:
    return Forecasted({}, {"probe": probe, "propagate": propagate}, "propagate")


def test_how_often_fits_disagree_narrows_the_interval() -> None:
    errors, images = np.array([0.1, 0.12, 0.2]), 100
    covariance = np.diag(errors * (1 - errors) / images)
    sizes = np.array([80.0, 40.0, 20.0])
    told = fit_law(sizes, errors, covariance, images, 100, prior_of("probe", 0.067, 5))
    untold = fit_law(sizes, errors, covariance, images, 100, prior_of("probe", float("nan"), 5))
    assert np.ptp(told.quantiles(100)[1:]) < 0.8 * np.ptp(untold.quantiles(100)[1:])
    faster = prior_of("probe", 0.067, 5, fade=0.6)
    assert faster.exponent > prior_of("probe", 0.067, 5, fade=0.3).exponent + 0.1
    other_folds = prior_of("probe", 0.067, 3)
    assert other_folds.level is None


def test_priors_are_learned_from_cells_each_data_set_counting_the_same() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for name, count in (("a", 2), ("b", 20), ("c", 2)):
        for _ in range(count):
            error = rng.uniform(0.05, 0.4)
            rows.append(
                {
                    "data": name,
                    "rung": "probe",
                    "per_class": 10,
                    "disagreement": error / 1.5,
                    "fade": (fade := rng.uniform(0.2, 0.6)),
                    "error": error,
                    "later": error * 4 ** -(0.3 - 0.1 * np.log(error / 0.1) + 0.5 * (fade - 0.4)),
                    "factor": 4.0,
                    "images": 10**9,
                }
            )
    found = learn(rows)
    assert found.ratio == pytest.approx((np.log(1.5), 0.0, 0.0), abs=0.01)
    assert found.exponent == pytest.approx((0.1, -0.1, 0.5), abs=0.02)
    assert learn(rows, fading=False).exponent[2] == 0.0


def test_few_data_sets_are_trusted_less_than_many_of_the_same_spread() -> None:
    def spread(sets: int) -> float:
        rows = [
            {
                "data": str(number),
                "rung": "probe",
                "per_class": 10,
                "fade": 0.4,
                "disagreement": (seen := 0.1 if number // 2 % 2 else 0.15),
                "error": (error := 1.5 * seen * np.exp(0.4 * (-1) ** number)),
                "later": 0.7 * error,
                "factor": 4.0,
                "images": 10**9,
            }
            for number in range(sets)
        ]
        return learn(rows).ratio_sd

    assert spread(4) > 1.3 * spread(40) > 1.3 * 0.4


def test_how_sure_fits_are_of_all_images_steadies_what_few_held_out_labels_say() -> None:
    rng = np.random.default_rng(0)
    plain, better, said = [], [], []
    for _ in range(300):
        doubt = rng.beta(0.6, 2.4, 100)  # 0.2 on average, and as often wrong as it says
        wrong = (rng.uniform(size=100) < doubt).astype(float)[None]
        estimates, covariance = steadied(wrong, doubt[None], np.array([0.2]))
        plain.append(wrong.mean())
        better.append(estimates[0])
        said.append(covariance[0, 0])
        unsteadied, raw = steadied(wrong, doubt[None], np.array([np.nan]))
        assert unsteadied[0] == pytest.approx(wrong.mean())
        assert raw[0, 0] == pytest.approx(np.var(wrong, ddof=1) / 100)
    assert np.mean(better) == pytest.approx(0.2, abs=0.006)
    assert np.std(better) < 0.93 * np.std(plain)
    assert np.std(better) == pytest.approx(np.sqrt(np.mean(said)), rel=0.15)


@pytest.mark.parametrize("rung", ["probe", "propagate"])
def test_a_fit_on_part_of_a_fold_sees_neither_held_out_labels_nor_those_left_out(
    rung: str, tmp_path: Path
) -> None:
    ctx = context(write_digits(tmp_path / "data", labels=6, pool=12), tmp_path / "cache")
    fold = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[0]
    train = ctx.train_positions(fold)
    mask = parts_of(ctx.data.y[train], seed=1)[1]

    def says(y: np.ndarray) -> np.ndarray:
        other = replace(ctx, data=replace(ctx.data, y=y), scratch={})
        made = fit_part(other, FrozenInputs(other, fold).only(mask), rung)
        return made.probs(other.data.images(other.data.labeled_ids))

    unseen = np.concatenate([fold.held_out, train[~mask]])
    changed = ctx.data.y.copy()
    changed[unseen] = np.roll(changed[unseen], 5)
    assert (changed != ctx.data.y).any()
    np.testing.assert_array_equal(says(ctx.data.y), says(changed))
    known = changed.copy()
    known[train[mask]] = np.roll(known[train[mask]], 1)
    assert (says(known) != says(changed)).any()


def test_a_forecast_says_what_it_measured_the_same_every_time(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", labels=8, pool=25)
    told = []
    for _ in range(2):
        ctx = context(data, tmp_path / "cache")
        assert too_little(ctx) == ""
        config = ForecastConfig(more=100, price_per_label=0.5)
        told.append(tell(ctx, forecast_curves(ctx), config, "digits").to_json())
        told[-1].pop("decisions")  # among them what a clock measured
    assert told[0] == told[1]
    found = told[0]
    assert found["sentence"].startswith("100 more labels: ")
    assert "for 50" in found["sentence"]
    rungs = {rung["rung"]: rung for rung in found["rungs"]}
    assert list(rungs) == ["probe", "propagate"]
    for rung in rungs.values():
        assert [point["labels"] for point in rung["measured"]] == sorted(
            p["labels"] for p in rung["measured"]
        )
        ahead = [rung["now"], *rung["expected"]]
        assert [point["labels"] for point in ahead] == [32, 64, 128, 132, 256]
        errors = [point["error"] for point in ahead]
        assert errors == sorted(errors, reverse=True)
        assert all(point["low"] <= point["error"] <= point["high"] for point in ahead)


def test_without_unlabeled_images_there_is_one_curve_and_nothing_they_are_worth(tmp_path: Path) -> None:
    ctx = context(write_digits(tmp_path / "data", labels=6, pool=0), tmp_path / "cache")
    found = tell(ctx, forecast_curves(ctx), ForecastConfig(), "digits")
    assert [rung.rung for rung in found.rungs] == ["probe"]
    assert found.worth_labels is None
    assert "worth" not in found.sentence


def test_a_budget_that_is_used_up_ends_the_measuring_after_two_folds_and_says_so(tmp_path: Path) -> None:
    ctx = context(write_digits(tmp_path / "data", labels=6, pool=5), tmp_path / "cache")
    told: list[str] = []
    ctx.tell = told.append
    ctx.clock.budget = 0.0
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)[:5]
    curve = measure(ctx, folds, ["probe"], 5)[0]
    assert curve.images == sum(len(fold.held_out) for fold in folds[:2])
    assert "2 of 5 folds" in told[0]


def test_numbers_of_labels_are_rounded_as_a_person_would() -> None:
    assert [rounded(n) for n in (7, 32, 60, 100, 210, 1830)] == [7, 30, 60, 100, 200, 2000]
