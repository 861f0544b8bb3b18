"""Rung 4: a network tuned on the labels alone, under noise. The funded opponent of every rung above it."""

from __future__ import annotations

from typing import ClassVar

from fallow.methods import JointMethod, Supervised
from fallow.study.rung import RungInfo, Workload
from fallow.study.rungs.trained import Below, TrainedRung
from fallow.study.trained.fit import Fit


class FinetuneRung(TrainedRung):
    """Supervised training with RandAugment, cutout and an average of the weights."""

    info: ClassVar[RungInfo] = RungInfo(
        "finetune", "network trained on noised labeled images, labels only", False, True, False
    )
    workload = Workload(least=40, enough=200, most=600)
    joint = False

    def method(self, fit: Fit, below: Below, steps: int) -> JointMethod:
        """Return supervised training."""
        return Supervised(fit.ctx.task)
