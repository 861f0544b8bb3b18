"""Rung 6: a network learns from the unlabeled images alone, then labels are spread over what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fallow.models import EmbeddingClassifier, Space, from_backbone
from fallow.record import Decision
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs
from fallow.study.pretraining.within import NAME, Learned, PoolLesson, learned_from_pool
from fallow.study.rung import Candidate, Cost, Fold, Rung, RungInfo, Workload
from fallow.study.rungs.propagate import PropagateRung, spread
from fallow.study.trained.answers import answer_seconds
from fallow.study.trained.fit import Fit, step_seconds
from fallow.types import JsonObject, RungName


class PretrainRung(Rung):
    """Label propagation once more, with a network beside the other embeddings that has learned from the pool alone.

    The network knows no label, so that one serves all folds; labeled images are not learned from, so that those that are held
    out are new to it. Unasked only where the network starts from random weights: a pretrained one has seen more images than a
    pool of this size holds (15 minutes on UC Merced gained nothing that could be shown).
    """

    info: ClassVar[RungInfo] = RungInfo(
        "pretrain",
        "network taught by the unlabeled images alone, labels spread over what it sees",
        False,
        False,
        True,
        from_scratch=True,
    )
    workload = Workload(least=100, enough=300, most=1000)
    shared = True

    def answer(self, ctx: RungContext) -> float:
        """Return what the network takes for an image, from the file to its features."""
        made = PoolLesson.of(ctx)
        size, parts = made.plan.network.size, made.plan.network.trainable
        network = from_backbone(made.start, nn.Identity(), size, trainable=parts)
        return answer_seconds(ctx, Fit.of(ctx, None, joint=True), network)

    def estimate(self, ctx: RungContext) -> Cost:
        """Return the time of a step, and of looking at all images once."""
        step, image = step_seconds(ctx, NAME, PoolLesson.of(ctx).loop), self.answer(ctx)
        everyone = len(ctx.data.y) + len(ctx.pool) + len(ctx.extra)
        beside = PropagateRung().estimate(ctx).seconds * (1 + 1 / len(ctx.plan.backbones))
        return Cost(step, everyone * image, beside)

    def fit(
        self,
        ctx: RungContext,
        fold: Fold | None,
        below: Mapping[RungName, Candidate],
        steps: int | None = None,
    ) -> Candidate:
        """Propagate with a space more; the first fit trains the network."""
        assert steps is not None
        learned, size = learned_from_pool(ctx, steps), PoolLesson.of(ctx).plan.network.size
        backbone = learned.backbone
        space = Space(backbone.name, backbone.weights_id, size, "none")
        branches, mix, _ = spread(ctx, fold, FrozenInputs(ctx, fold, (space,)))
        if fold is None:
            _decide(ctx, learned)
        classifier = EmbeddingClassifier(branches, ctx.data.classes)
        return TrainedCandidate(classifier, ctx.bank, [backbone], mix, final=fold is None)

    def restore(
        self, ctx: RungContext, tensors: dict[str, NDArray[np.generic]], meta: JsonObject
    ) -> Candidate:
        """Rebuild a candidate from its state."""
        restored: Any = TrainedCandidate.from_state(tensors, meta, ctx.bank)
        return cast(Candidate, restored)


def _decide(ctx: RungContext, learned: Learned) -> None:
    record, pinned = learned.record, ctx.config.pretrain.method != "auto"
    ctx.decide("pretrain.method", record["method"], str(record["why"]), pinned)
    rule = "Steps by data and budget, all else as in fallow pretrain; no label takes part."
    evidence: Any = {"images": record["images"], **cast(JsonObject, record["figures"])}
    ctx.decisions.add(Decision("pretrain.training", record["settings"], "rule", rule, evidence))
