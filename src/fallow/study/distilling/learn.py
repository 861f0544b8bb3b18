"""The student's lesson as a rung: one refit on all images, by what the teacher said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from fallow.config import DistillationConfig
from fallow.methods import Distillation, JointMethod
from fallow.models import EmbeddingClassifier
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.context import RungContext
from fallow.study.distilling.teacher import Taught
from fallow.study.rung import Cost, Fold, RungInfo, Workload
from fallow.study.rungs.trained import Below, TrainedRung
from fallow.study.trained.fit import Fit
from fallow.tasks import Posteriors

_EPOCHS = 60
"""The student sees each image about so often at most."""
_LEAST, _FEWEST_MOST, _MOST = 50, 400, 20_000


class StudentRung(TrainedRung):
    """Trains a student on all images; it is never measured on folds, for the teacher has seen all labels.

    Args:
        taught: What the teacher said of the pool, in its order.
        asked: What of it the student learns.
    """

    info: ClassVar[RungInfo] = RungInfo(
        "distill", "a small network that learned what a teacher says", False, False, True
    )
    workload = Workload(_LEAST, _FEWEST_MOST, _MOST)

    def __init__(self, taught: Taught, asked: DistillationConfig) -> None:
        self._taught, self._asked = taught, asked

    def method(self, fit: Fit, below: Below, steps: int) -> JointMethod:
        """Return the lesson: the teacher's answers, looked up by position."""
        probs, features = torch.from_numpy(self._taught.probs), torch.from_numpy(self._taught.features)

        def say(index: Tensor) -> Posteriors:
            rows = probs[index.cpu()].to(index.device)
            return Posteriors("categorical", rows, torch.arange(len(rows), device=index.device))

        dim = features.shape[1]
        return Distillation(
            fit.ctx.task,
            teacher=say,
            features=(lambda index: features[index.cpu()].to(index.device)) if dim else None,
            feature_dim=dim,
            label_weight=self._asked.label_weight,
            feature_weight=self._asked.feature_weight,
        )

    def fit(
        self, ctx: RungContext, fold: Fold | None, below: Below, steps: int | None = None
    ) -> TrainedCandidate:
        """Train, and let the student look at each image once: it is to be fast."""
        made = super().fit(ctx, fold, below, steps)
        (branch,) = made.classifier.branches
        branch = replace(branch, space=replace(branch.space, views="none"))
        once = EmbeddingClassifier([branch], made.classifier.classes, made.classifier.temperature)
        return TrainedCandidate(once, ctx.bank, list(made.networks.values()), final=True)

    def most_steps(self, ctx: RungContext) -> int:
        """Return the steps beyond which there is nothing left to learn."""
        batch = max(1, Fit.of(ctx, None, joint=True).settings(_LEAST).unlabeled_batch)
        return int(min(_MOST, max(_FEWEST_MOST, _EPOCHS * len(ctx.pool) / batch)))

    def planned(self, cost: Cost, seconds: float, most: int) -> int:
        """Return as many steps as the time holds, ``most`` at most; 0 where it holds too few."""
        steps = int((seconds - cost.once) / max(cost.seconds, 1e-9))
        return min(steps, most) if steps >= _LEAST else 0
