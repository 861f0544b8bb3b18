"""What more labels would bring: measure learning curves, fit laws, and say it in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fallow.config.forecast import ForecastConfig
from fallow.data import assign_folds, default_folds
from fallow.record import Decision
from fallow.record.next_labels import Expected, Forecast, MeasuredError, RungForecast
from fallow.report.forecast_page import interval, money
from fallow.report.words import percent, plural
from fallow.study.context import RungContext
from fallow.study.forecasting.measure import Curve, measure
from fallow.study.forecasting.power import Law, fit_law, least_error
from fallow.study.forecasting.priors import prior_of
from fallow.study.pace import embed_everything
from fallow.study.rung import Fold
from fallow.types import RungName

_FITS = 5
"""Held-out fits that a point of a curve is the mean of: few labels are dealt anew until there are about so many."""
_FACTORS = (2, 4, 8)
"""How many times the labels at hand are looked ahead to: further on no law is to be trusted."""
_OR_MORE = "or more"
_LEAST = 20
"""Held-out labels below which a forecast would be a guess with a number on it."""
_STEPS = 40
"""Points of a drawn curve."""
_HALF = 1.2816
"""Standard deviations on either side that hold 80 %."""


@dataclass(frozen=True)
class Forecasted:
    """A forecast before it is put into words: the laws by rung, the best first where it was measured so."""

    curves: dict[RungName, Curve]
    laws: dict[RungName, Law]
    best: RungName


def too_little(ctx: RungContext) -> str:
    """Return why nothing can be forecast, in a sentence; empty where something can."""
    counts = np.bincount(ctx.data.y, minlength=len(ctx.data.classes))
    fewest = int(counts.min())
    if fewest < 3:
        name = ctx.data.classes[int(counts.argmin())]
        return (
            f"Nothing can be forecast yet: the class '{name}' has {plural(fewest, 'label')}, and a learning curve needs at "
            "least 3 of each class (5 are better). `fallow suggest` says which images to label next."
        )
    if len(ctx.data.y) < _LEAST:
        return (
            f"Nothing can be forecast yet: there are {plural(len(ctx.data.y), 'label')}, and below {_LEAST} a learning curve "
            "is a guess. `fallow suggest` says which images to label next."
        )
    if len(set(ctx.data.groups)) < len(ctx.data.classes) or not _folds(ctx)[0]:
        return (
            "Nothing can be forecast: all labels of a class are of one group, so that none can be held out."
        )
    return ""


def forecast_curves(ctx: RungContext) -> Forecasted:
    """Measure the learning curves of the cheap rungs and fit their laws; `too_little` says where that cannot be done."""
    curves, labels = measured_curves(ctx), len(ctx.data.y)
    laws = laws_of(curves, labels, ctx.data.per_class, ctx.config.seed)
    return Forecasted(curves, laws, min(laws, key=lambda name: laws[name].quantiles(labels)[0]))


def measured_curves(ctx: RungContext) -> dict[RungName, Curve]:
    """Return the learning curves of the cheap rungs, by rung."""
    folds, parts = _folds(ctx)
    embed_everything(ctx, folds)
    rungs: tuple[RungName, ...] = ("probe", "propagate") if len(ctx.data.pool_ids) else ("probe",)
    return {curve.rung: curve for curve in measure(ctx, folds, rungs, parts)}


def laws_of(
    curves: Mapping[RungName, Curve],
    labels: int,
    per_class: float,
    seed: int = 0,
    without: str | None = None,
) -> dict[RungName, Law]:
    """Return the posterior of each curve's law.

    Args:
        curves: By rung; always with the probe, whose fits' disagreement and doubt say most of every rung's law.
        labels: Labels at hand.
        per_class: Labels a class, the median over classes.
        seed: Of the draws.
        without: A data set that the priors leave out, for benchmarks on it.
    """
    probe, made = curves["probe"], {}
    for name, curve in curves.items():
        prior = prior_of(name, float(probe.disagreement[0]), probe.folds, per_class, probe.fade, without)
        made[name] = fit_law(
            curve.sizes, curve.estimates, curve.covariance, curve.images, labels, prior, seed
        )
    return made


def _folds(ctx: RungContext) -> tuple[list[Fold], int]:
    """Deal the labels into parts, anew until there are about ten held-out fits."""
    y, seed = ctx.data.y, ctx.config.seed
    parts = default_folds(y.tolist())
    repeats = max(1, round(_FITS / max(parts, 1)))
    dealt = assign_folds(y.tolist(), ctx.data.groups, parts, repeats, seed)
    made = [
        Fold(r, f, np.flatnonzero(dealt[r] == f))
        for r in range(repeats)
        for f in range(parts)
        if (dealt[r] == f).any()
    ]
    return made, parts


def tell(ctx: RungContext, found: Forecasted, config: ForecastConfig, named: str) -> Forecast:
    """Put a forecast into words and plain values."""
    labels = len(ctx.data.y)
    more = config.more if isinstance(config.more, int) else rounded(labels)
    ctx.decide(
        "more",
        more,
        "Asked for." if config.more != "auto" else "As many again as there are, rounded.",
        config.more != "auto",
    )
    _decisions(ctx, found)
    ahead = sorted({labels + more, *(labels * factor for factor in _FACTORS)})
    rungs = tuple(_told(found.curves[name], law, labels, ahead) for name, law in found.laws.items())
    worth, note = _worth(found, labels)
    best = next(rung for rung in rungs if rung.rung == found.best)
    return Forecast(
        data=named,
        seed=config.seed,
        counts=ctx.data.counts,
        sentence=_sentence(best, more, worth, note, len(ctx.data.pool_ids), config.price_per_label),
        rungs=rungs,
        best=found.best,
        more=more,
        worth_labels=worth,
        worth_note=note,
        price_per_label=config.price_per_label,
        decisions=tuple(ctx.decisions),
    )


def rounded(labels: int) -> int:
    """Return a number of labels near ``labels`` as a person would say it: one figure and zeros, or a half."""
    power = 10 ** max(0, len(str(labels)) - 1)
    return max(1, round(2 * labels / power)) * power // 2 if power > 1 else labels


def _told(curve: Curve, law: Law, labels: int, ahead: Sequence[int]) -> RungForecast:
    def at(count: int) -> Expected:
        middle, low, high = law.quantiles(count)
        return Expected(count, round(middle, 5), round(low, 5), round(high, 5))

    # By the angle of a share, whose spread is the same for few errors and many: no error among few is not no error.
    half = _HALF / (2 * np.sqrt(curve.images))
    ends = (curve.errors, -half), (np.maximum(curve.errors, least_error(curve.images)), half)
    lows, highs = (
        np.sin(np.clip(np.arcsin(np.sqrt(errors)) + side, 0, np.pi / 2)) ** 2 for errors, side in ends
    )
    points = [
        MeasuredError(
            round(float(size), 1), round(float(error), 5), round(float(low), 5), round(float(high), 5)
        )
        for size, error, low, high in zip(curve.sizes, curve.errors, lows, highs, strict=True)
    ]
    steps = np.unique(np.geomspace(curve.sizes[-1], ahead[-1], _STEPS).round().astype(int))
    return RungForecast(
        curve.rung,
        tuple(reversed(points)),
        at(labels),
        tuple(at(count) for count in ahead),
        tuple(at(int(count)) for count in steps),
        round(float(np.median(law.exponent)), 4),
        round(float(np.median(law.asymptote * law.level)), 5),
    )


def _worth(found: Forecasted, labels: int) -> tuple[int | None, str]:
    """Return how many more labels the law of labels only takes to the error of propagation, and a remark."""
    if "propagate" not in found.laws:
        return None, ""
    base, error = found.laws["probe"], found.laws["propagate"].quantiles(labels)[0]
    if error >= base.quantiles(labels)[0]:
        return 0, "propagate is not better than labels only"
    needed = base.labels_for(error, labels * _FACTORS[-1])
    if needed is None:
        return labels * (_FACTORS[-1] - 1), f"{_OR_MORE}: further no law is to be trusted"
    return max(round(needed) - labels, 1), "read off the curve of labels only"


def _sentence(
    best: RungForecast, more: int, worth: int | None, note: str, pool: int, price: float | None
) -> str:
    now, then = best.now, next(p for p in best.expected if p.labels == best.now.labels + more)
    text = f"{plural(more, 'more label')}: {100 * now.error:.1f} → {percent(then.error)} error ({interval(then)})"
    if price is not None:
        text += f" for {money(price * more)}"
        gained = 100 * (now.error - then.error)
        if gained >= 0.05:
            text += f", {money(price * more / gained)} a point"
    if worth and pool:
        about = "at least" if note.startswith(_OR_MORE) else "about"
        text += f"; your {plural(pool, 'unlabeled image')} {'is' if pool == 1 else 'are'} already worth {about} {plural(worth, 'label')}"
    return text + "."


def _decisions(ctx: RungContext, found: Forecasted) -> None:
    for name, law in found.laws.items():
        curve = found.curves[name]
        ctx.decisions.add(
            Decision(
                f"forecast.{name}",
                f"{np.median(law.level):.3f} x (labels / {law.labels:.0f})^-{np.median(law.exponent):.2f}",
                "search",
                "A power law with an asymptote of at least zero, fitted to errors on held-out labels, to how often fits "
                "disagree on unlabeled images and to how fast their doubt about these falls; exponent, asymptote and ratio have priors from other data sets.",
                {
                    "held_out": curve.images,
                    **{
                        f"error at {size:.0f}": round(float(e), 4)
                        for size, e in zip(curve.sizes, curve.errors, strict=True)
                    },
                    **{
                        f"disagreement at {size:.0f}": round(float(d), 4)
                        for size, d in zip(curve.sizes, curve.disagreement, strict=True)
                        if np.isfinite(d)
                    },
                    **({"doubt falls by": round(curve.fade, 3)} if np.isfinite(curve.fade) else {}),
                },
            )
        )
