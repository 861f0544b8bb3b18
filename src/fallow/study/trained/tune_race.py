"""The search of one fold: its labels are dealt into parts, and candidates are trained on all but one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fallow.data import assign_folds
from fallow.engine import Diverged
from fallow.models import fit_temperature
from fallow.search import Race, RateRange, race, star
from fallow.study.context import RungContext
from fallow.study.rung import Candidate, Fold
from fallow.study.trained.tune import LR, PARTS, PROBE_STEPS, Found, TuningPlan, free, keep_found, tuning_of
from fallow.types import Json, JsonObject

_LATE = 1.5
"""A search is given up when it takes this many times what was planned for it."""
_SAME = 1.5
"""A rate that differs from the default by less than this factor is no candidate of its own."""
_FARTHEST = 10.0
"""A suggested rate is no farther from the default than this factor."""
_LOST = 1e-4
"""Probability that a fit which broke down gives each true class."""

Axes = dict[str, tuple[Json, ...]]
Train = Callable[[RungContext, Fold, int], Candidate]
"""(context, fold, steps) -> what a fit with this fold's values becomes."""
Probe = Callable[[RungContext, int], RateRange]
"""(context, steps) -> what a run with rising learning rates on this fold's labels shows."""


class _Late(Exception):
    """The machine is much slower than it was measured to be."""


@dataclass(frozen=True)
class Search:
    """The search of one fold. It sees the labels outside of the fold and no others.

    Attributes:
        ctx: Data and clock.
        fold: What the fold holds out; None is the refit.
        train: Makes a fit.
        probe: Looks for learning rates.
        axes: What there is to search; of the learning rate, what to try where the probe suggests nothing.
        lr: The default learning rate.
    """

    ctx: RungContext
    fold: Fold | None
    train: Train
    probe: Probe
    axes: Axes
    lr: float

    def run(self) -> None:
        """Search, unless the run planned none or this fold has found its values already."""
        tuning = tuning_of(self.ctx)
        if tuning.plan is None or self.ctx.scratch_key(self.fold) in tuning.found:
            return
        keep_found(self.ctx, self.fold, self._found(tuning.plan))

    def _found(self, plan: TuningPlan) -> Found:
        base, axes, figures = self._around()
        candidates = [{**base, **changed} for changed in star(axes)][: plan.rivals + 1]
        judge = _Judge(self, plan, candidates)
        try:
            ended = race(judge.losses, len(candidates), plan.blocks)
        except _Late:
            return Found(base, {**figures, "given_up": "the machine was slower than measured"})
        return Found(candidates[ended.chosen], {**figures, **_told(ended, candidates, plan)})

    def _around(self) -> tuple[JsonObject, Axes, JsonObject]:
        """Return what the default becomes, what is tried around it, and what the probe showed."""
        axes: Axes = {name: tuple(values) for name, values in free(self.ctx, self.axes).items()}
        if LR not in axes:
            return {}, axes, {}
        seen = self.probe(self._quiet("learning rate", 1, 0), PROBE_STEPS)
        lr = min(self.lr, seen.ceiling)
        near = seen.suggestion
        if near is not None:
            near = float(f"{min(max(near, lr / _FARTHEST), lr * _FARTHEST, seen.ceiling):.2g}")
            if max(near / lr, lr / near) >= _SAME:
                axes[LR] = (near, *(v for v in axes[LR] if (v - lr) * (near - lr) < 0))  # type: ignore[operator]
        axes[LR] = tuple(v for v in axes[LR] if v <= seen.ceiling)  # type: ignore[operator]
        figures: JsonObject = {"rate_of_steepest_fall": seen.steepest, "rate_of_divergence": seen.diverged}
        return ({LR: lr} if lr < self.lr else {}), axes, figures

    def _quiet(self, what: str, total: int, done: int) -> RungContext:
        """Return the context for a fit that leaves no checkpoint and tells nothing but how far it is."""
        outer = self.ctx.progress

        def progress(_: str, part: int, parts: int) -> None:
            outer(f"finetune: search, {what}", done * max(parts, 1) + part, total * max(parts, 1))

        return replace(self.ctx, workdir=None, stop=None, progress=progress, tell=lambda sentence: None)


class _Judge:
    """Asks candidates about the parts of a fold's labels."""

    def __init__(self, search: Search, plan: TuningPlan, candidates: list[JsonObject]) -> None:
        self.search, self.plan, self.candidates = search, plan, candidates
        self.begun, self.asked = time.monotonic(), 0
        ctx = search.ctx
        self.train = ctx.train_positions(search.fold)
        groups = [ctx.data.groups[i] for i in self.train]
        labels = ctx.data.y[self.train].tolist()
        self.parts = assign_folds(labels, groups, PARTS, 1, ctx.seed(search.fold))[0]

    def losses(self, candidate: int, block: int) -> NDArray[np.float64]:
        """Return the loss of each label of a part, by a fit on the other parts with a candidate's values."""
        if time.monotonic() - self.begun > _LATE * self.plan.seconds:
            raise _Late
        search, held_out = self.search, self.train[self.parts == block]
        inner = _inner(search.fold, block, held_out)
        ctx = search._quiet(f"fit {self.asked + 1}", 1, 0)
        self.asked += 1
        tuning = tuning_of(ctx)
        tuning.found[inner.key] = Found(self.candidates[candidate])
        try:
            fitted = search.train(ctx, inner, self.plan.steps)
            ids = tuple(ctx.data.labeled_ids[i] for i in held_out)
            return held_out_loss(fitted.predict(ctx.data.images(ids)).probs.numpy(), ctx.data.y[held_out])
        except Diverged:
            return np.full(len(held_out), -np.log(_LOST))
        finally:
            del tuning.found[inner.key]
            ctx.drop_scratch(inner)


def held_out_loss(probs: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log-loss of each label, calibrated.

    One temperature is fitted to these same labels, as the rung's will be to its held-out ones: what makes a network only more or
    less sure of itself must win no race.

    Args:
        probs: (n, classes).
        labels: (n,) true classes.
    """
    logits = np.log(np.maximum(probs.astype(np.float64), 1e-12))
    logits /= fit_temperature(logits, labels)
    logits -= logits.max(1, keepdims=True)
    found: NDArray[np.float64] = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return found


def _inner(fold: Fold | None, block: int, held_out: NDArray[np.int64]) -> Fold:
    """Return a fold that holds out a part of a fold's labels too."""
    if fold is None:
        return Fold(1000 * (block + 1), 0, held_out)
    number = 1 + fold.repeat * 31 + fold.index
    return Fold(1000 * (block + 1), number, np.sort(np.concatenate([fold.held_out, held_out])))


def _told(ended: Race, candidates: list[JsonObject], plan: TuningPlan) -> JsonObject:
    """Return the race as evidence."""
    default = candidates[0]
    gains: dict[str, Json] = {}
    for one in ended.rounds:
        changed = {k: v for k, v in candidates[one.candidate].items() if default.get(k) != v}
        said = ", ".join(f"{name} {value}" for name, value in changed.items())
        gains[said] = f"{one.gain:+.3f} +- {one.error:.3f} on {one.units}"
    return {
        "gain_in_log_loss": gains,
        "standard_errors_needed": round(ended.needed, 2),
        "fits": ended.evaluations,
        "steps": plan.steps,
    }
