"""What rungs 4 to 7 have in common: a network, a method, a loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fallow.engine import Loop, derive, generator
from fallow.methods import JointMethod
from fallow.models import Backbone, Network, from_backbone
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.context import RungContext
from fallow.study.rung import Candidate, Cost, Fold, Rung, Workload
from fallow.study.trained.answers import answer_seconds, pool_seconds
from fallow.study.trained.fit import Fit, mixing, record_training, step_seconds, timed_settings
from fallow.study.trained.network import starting_backbone
from fallow.study.trained.start import fitted_head
from fallow.tasks import FeatureInfo
from fallow.types import JsonObject, RungName

Below = Mapping[RungName, Candidate]


class TrainedRung(Rung):
    """A rung that trains a network by a method.

    Attributes:
        workload: How many steps make sense.
        joint: Whether the pool takes part.
        mix: How labeled images are mixed where nobody asked.
        on_pretrained: Whether it goes on from the network of the rung *pretrain*, where that was climbed.
    """

    workload: ClassVar[Workload]
    joint: ClassVar[bool] = True
    mix: ClassVar[str] = "none"
    on_pretrained: ClassVar[bool] = False

    @abstractmethod
    def method(self, fit: Fit, below: Below, steps: int) -> JointMethod:
        """Return the method of a fit; ``below`` is empty when only a step's time is measured."""

    def network(self, fit: Fit, below: Below) -> Network:
        """Return the network to start from: the plan's, with a head that knows the labels where its features are good.

        A rung that goes ``on_pretrained`` starts, in place of random weights, from those that learned from the pool alone.
        """
        learned = self.learned(fit, below)
        drawn_by = derive(fit.ctx.seed(fit.fold), "weights") % 2**31
        backbone = starting_backbone(fit.ctx, drawn_by) if learned is None else learned
        if learned is not None and fit.fold is None:
            rule = "The network that learned from the unlabeled images knows more than random weights."
            fit.ctx.decide(f"{self.info.name}.start", learned.name, rule)
        head = fit.ctx.task.head(FeatureInfo(backbone.dim_at(fit.plan.size)))
        assert isinstance(head, nn.Linear)
        if (fit.plan.scratch and learned is None) or not below:
            # Labels alone begin with all classes alike; a network that labels images itself would call them all one class.
            spread = 1 / head.in_features if self.joint else 0.0
            drawn = generator(fit.ctx.seed(fit.fold), "head")
            torch.nn.init.normal_(head.weight, std=spread**0.5, generator=drawn)
            torch.nn.init.zeros_(head.bias)
        else:
            fitted_head(fit.ctx, fit.fold, head, backbone, self.guesses(fit, below))
        dropout, drop_path = self.own_noise(fit.ctx)
        return from_backbone(
            backbone,
            head,
            fit.plan.size,
            trainable=fit.plan.trainable,
            dropout=dropout,
            drop_path=drop_path,
        )

    def learned(self, fit: Fit, below: Below) -> Backbone | None:
        """Return the network that learned from the pool alone, where this rung goes on from it and weights would be random."""
        found = below.get("pretrain")
        if not self.on_pretrained or not fit.plan.scratch or not isinstance(found, TrainedCandidate):
            return None
        (backbone,) = found.networks.values()
        return backbone

    def guesses(self, fit: Fit, below: Below) -> NDArray[np.float32] | None:
        """Return what the head of a pretrained network learns of the pool before the first step, (pool, classes).

        It is what label propagation says, where it was climbed and the pool takes part; of a network that learned from the pool,
        what it says with that network.
        """
        teacher = "propagate" if self.learned(fit, below) is None else "pretrain"
        found = below.get(teacher) if self.joint else None
        return fit.pool_probs(found).numpy() if isinstance(found, FrozenCandidate) else None

    def own_noise(self, ctx: RungContext) -> tuple[float, float]:
        """Return dropout and stochastic depth of the network: none, unless a method lives on them."""
        return 0.0, 0.0

    def answer(self, ctx: RungContext) -> float:
        """Return what the network takes for an image, from the file to its features."""
        fit = Fit.of(ctx, None, joint=self.joint)
        return answer_seconds(ctx, fit, self.network(fit, {}))

    def estimate(self, ctx: RungContext) -> Cost:
        """Return the time of one step, and of what all fits share."""
        fit = Fit.of(ctx, None, joint=self.joint)
        settings, network = timed_settings(fit), self.network(fit, {})
        method = self._built(fit, {}, settings.steps)
        once, image = fit.shared_seconds(network, method), answer_seconds(ctx, fit, network)

        def make() -> Loop:
            mix = mixing(ctx, None, self.mix)
            return fit.loop(network, method, settings, title="", mix=mix, measured=True)

        step = step_seconds(ctx, self.info.name, make)
        pool = pool_seconds(fit, network, method, settings, image, step)
        return Cost(step, once, self.questions(ctx) * pool)

    def questions(self, ctx: RungContext) -> int:
        """Return how often in a fit a trained network is asked about the whole pool."""
        return 0

    def fit(
        self, ctx: RungContext, fold: Fold | None, below: Below, steps: int | None = None
    ) -> TrainedCandidate:
        """Train on the labels outside of ``fold`` for the planned number of steps."""
        assert steps is not None  # the ladder plans every fit of a trained rung
        fit = Fit.of(ctx, fold, joint=self.joint)
        settings = fit.settings(steps)
        network, method = self.network(fit, below), self._built(fit, below, steps)
        loop = fit.loop(
            network,
            method,
            settings,
            title=f"{self.info.name}: steps",
            place=fit.place(self.info.name),
            mix=mixing(ctx, fold, self.mix),
        )
        outcome = loop.run(ctx.stop)
        if fold is None:
            record_training(ctx, self.info.name, settings, outcome)
        return fit.candidate(self.info.name, outcome)

    def _built(self, fit: Fit, below: Below, steps: int) -> JointMethod:
        method = self.method(fit, below, steps)
        dim = starting_backbone(fit.ctx, 0).dim_at(fit.plan.size)
        with torch.random.fork_rng(devices=[]):  # a method's own head is the same whatever was drawn before
            torch.manual_seed(derive(fit.ctx.seed(fit.fold), "method"))
            method.build(FeatureInfo(dim), len(fit.ctx.pool), fit.classes, steps)
        return method

    def restore(
        self, ctx: RungContext, tensors: dict[str, NDArray[np.generic]], meta: JsonObject
    ) -> Candidate:
        """Rebuild a candidate from its state."""
        return TrainedCandidate.from_state(tensors, meta, ctx.bank)
