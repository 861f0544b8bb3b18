"""The rung for extra images: the labels-only head, and labeled images of another origin at a weight that is searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fallow.models import EmbeddingClassifier
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.extra import extra_mass, search_fits
from fallow.study.inputs import FrozenInputs
from fallow.study.rung import Candidate, Cost, Fold, Rung, RungInfo
from fallow.study.rungs.probe import fitted_heads
from fallow.types import JsonObject, RungName


class BlendRung(Rung):
    """The probe once more, on labels and extra images together: what it gains is what the extra images are worth."""

    info: ClassVar[RungInfo] = RungInfo(
        "blend",
        "linear model on frozen vectors, labels and extra images",
        True,
        False,
        False,
        needs_extra=True,
    )

    def estimate(self, ctx: RungContext) -> Cost:
        """Return the time of one fit, the search for the weight included."""
        fits = 1 + search_fits(len(ctx.data.y)) * (ctx.config.extra.weight == "auto")
        rows = len(ctx.data.y) + len(ctx.data.extra_ids)
        return Cost(0.1 + rows * len(ctx.data.classes) * 2e-5 * fits * len(ctx.plan.backbones))

    def fit(
        self,
        ctx: RungContext,
        fold: Fold | None,
        below: Mapping[RungName, Candidate],
        steps: int | None = None,
    ) -> Candidate:
        """Fit a head for each space on labels and extra images; their log-probabilities are averaged."""
        found = FrozenInputs(ctx, fold)
        branches, _ = fitted_heads(ctx, fold, found, extra_mass(ctx, fold, found))
        return FrozenCandidate(EmbeddingClassifier(branches, ctx.data.classes), ctx.bank)

    def restore(
        self, ctx: RungContext, tensors: dict[str, NDArray[np.generic]], meta: JsonObject
    ) -> Candidate:
        """Rebuild a candidate from its state."""
        return FrozenCandidate.from_state(tensors, meta, ctx.bank)
