"""Rung 4: a network tuned on the labels alone, under noise. The funded opponent of every rung above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from fallow.engine import losses_at
from fallow.methods import JointMethod, Supervised
from fallow.search import RateRange, rate_range, rising_rates
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.context import RungContext
from fallow.study.rung import Fold, RungInfo, Workload
from fallow.study.rungs.trained import Below, TrainedRung
from fallow.study.trained.fit import Fit, mixing
from fallow.study.trained.network import network_plan
from fallow.study.trained.recipe import default_lr, searched
from fallow.study.trained.tune import plan_tuning
from fallow.study.trained.tune_race import Search

_REACH = 100.0
"""Learning rates are probed from the default over this factor to the default times it."""


class FinetuneRung(TrainedRung):
    """Supervised training with RandAugment, cutout and an average of the weights.

    With labels and time enough each fold first searches learning rate, weight decay and noise inside its own labels.
    """

    info: ClassVar[RungInfo] = RungInfo(
        "finetune", "network trained on noised labeled images, labels only", False, True, False
    )
    workload = Workload(least=40, enough=200, most=600)
    joint = False

    def method(self, fit: Fit, below: Below, steps: int) -> JointMethod:
        """Return supervised training."""
        return Supervised(fit.ctx.task)

    def prepare(
        self, ctx: RungContext, seconds: float, step: float, workload: Workload, folds: Sequence[Fold]
    ) -> float:
        """Plan the search; what it takes is set aside from the rung's share."""
        return plan_tuning(ctx, seconds, step, workload.enough, folds, searched(ctx, network_plan(ctx)))

    def fit(
        self, ctx: RungContext, fold: Fold | None, below: Below, steps: int | None = None
    ) -> TrainedCandidate:
        """Search where that was planned, then train on the labels outside of ``fold``."""
        plan, train = network_plan(ctx), super().fit
        Search(
            ctx,
            fold,
            lambda own, inner, count: train(own, inner, below, count),
            lambda own, count: self._rates(own, fold, below, count),
            searched(ctx, plan),
            default_lr(plan),
        ).run()
        return train(ctx, fold, below, steps)

    def _rates(self, ctx: RungContext, fold: Fold | None, below: Below, steps: int) -> RateRange:
        """Train a network that is thrown away for a few steps, each with a higher learning rate than the last."""
        fit = Fit.of(ctx, fold, joint=False)
        network, method = self.network(fit, below), self._built(fit, below, steps)
        settings = replace(fit.settings(steps), ema_decay=0.0)
        loop = fit.loop(network, method, settings, title="", mix=mixing(ctx, fold, self.mix))
        rates = rising_rates(settings.lr / _REACH, settings.lr * _REACH, steps).tolist()
        return rate_range(rates, losses_at(loop, rates))
