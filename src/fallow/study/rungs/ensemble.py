"""The last rung: rungs that learned from the pool in different ways vote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from fallow.record import Decision
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.candidates.network import TrainedCandidate, vote
from fallow.study.context import RungContext
from fallow.study.rung import Candidate, Cost, Fold, Rung, RungInfo, Workload
from fallow.types import JsonObject, RungName

_VOTERS = ("propagate", "joint", "pretrain", "noisy_student")


class EnsembleRung(Rung):
    """The average of the log-probabilities of the rungs that learned from the pool.

    Who votes is a rule and not a choice by held-out figures, which no fold may look at. All weigh alike: with few labels
    weights would be noise.
    """

    info: ClassVar[RungInfo] = RungInfo(
        "ensemble", "average of the rungs that learned from the pool", False, False, True
    )
    workload = Workload(least=0, enough=0, most=0)
    needs = ("joint", "pretrain", "noisy_student")

    def estimate(self, ctx: RungContext) -> Cost:
        """Return the time of a step: there is none."""
        return Cost(0.0)

    def fit(
        self,
        ctx: RungContext,
        fold: Fold | None,
        below: Mapping[RungName, Candidate],
        steps: int | None = None,
    ) -> Candidate:
        """Let the rungs below vote; nothing is trained."""
        names = [name for name in below if name in _VOTERS]
        members = [cast(FrozenCandidate, below[name]) for name in names]
        if fold is None:
            rule = "All rungs that learned from the pool, equally: their mistakes differ."
            ctx.decisions.add(Decision("ensemble.members", list(names), "rule", rule))
        return vote(members, final=fold is None)

    def restore(
        self, ctx: RungContext, tensors: dict[str, NDArray[np.generic]], meta: JsonObject
    ) -> Candidate:
        """Rebuild a candidate from its state."""
        restored: Any = TrainedCandidate.from_state(tensors, meta, ctx.bank)
        return cast(Candidate, restored)
