"""Rung 3: labels spread over the neighbor graph of labeled images and pool, and a linear head that learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fallow.methods import ExtraRows, PropagateOptions, Propagation, propagate
from fallow.models import Branch, EmbeddingClassifier
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.extra import extra_mass, extra_rows
from fallow.study.inputs import FrozenInputs, options_of
from fallow.study.rung import Candidate, Cost, Fold, Rung, RungInfo
from fallow.types import JsonObject, RungName


class PropagateRung(Rung):
    """Label propagation with a refitted head (see `fallow.methods.propagation`)."""

    info: ClassVar[RungInfo] = RungInfo(
        "propagate", "labels spread over neighbors, linear head refitted on them", True, False, True
    )

    def estimate(self, ctx: RungContext) -> Cost:
        """Return the time of one fit."""
        rows = len(ctx.data.y) + len(ctx.pool) + len(ctx.extra)
        return Cost(0.2 + rows * len(ctx.data.classes) * 4e-5 * len(ctx.plan.backbones))

    def fit(
        self,
        ctx: RungContext,
        fold: Fold | None,
        below: Mapping[RungName, Candidate],
        steps: int | None = None,
    ) -> Candidate:
        """Propagate once per space as the carrier of the head; all spaces make the graph."""
        branches, mix, figures = spread(ctx, fold, FrozenInputs(ctx, fold))
        if fold is None:
            _decide(ctx, mix, figures)
        return FrozenCandidate(EmbeddingClassifier(branches, ctx.data.classes), ctx.bank, mix)

    def restore(
        self, ctx: RungContext, tensors: dict[str, NDArray[np.generic]], meta: JsonObject
    ) -> Candidate:
        """Rebuild a candidate from its state."""
        return FrozenCandidate.from_state(tensors, meta, ctx.bank)


def spread(
    ctx: RungContext, fold: Fold | None, found: FrozenInputs
) -> tuple[list[Branch], NDArray[np.float64], JsonObject]:
    """Spread the labels of a fold, extra images included where they help.

    Returns:
        A head for each space, the estimated share of each class in the pool (classes,), and what showed on the way.
    """
    mass = extra_mass(ctx, fold, found)
    extra = [extra_rows(ctx, found, space, mass) for space in found.spaces]
    branches, done = spread_heads(found, options_of(ctx), len(ctx.data.classes), extra)
    figures: JsonObject = {k: round(float(v), 4) for k, v in done[0].diagnostics.items()}
    return branches, np.mean([one.mix for one in done], axis=0), figures


def _decide(ctx: RungContext, mix: NDArray[np.float64], figures: JsonObject) -> None:
    asked, options = ctx.config.propagate, options_of(ctx)
    for name, value in (("neighbors", options.neighbors), ("alpha", options.alpha)):
        pinned = getattr(asked, name) != "auto"
        rule = "Asked for." if pinned else "One default for all data; chosen on development splits of four."
        ctx.decide(f"propagate.{name}", value, rule, pinned)
    ctx.decide(
        "pool.mix",
        {c: round(float(m), 4) for c, m in zip(ctx.data.classes, mix, strict=True)},
        "Class shares of the pool: the mean of its soft labels, shrunk to the labels' own shares where these are few.",
        evidence=figures,
    )


def spread_heads(
    found: FrozenInputs,
    options: PropagateOptions,
    classes: int,
    extra: Sequence[ExtraRows | None] = (),
) -> tuple[list[Branch], list[Propagation]]:
    """Propagate once for each space as the carrier of the head, and return the heads and all that came out.

    Args:
        found: Vectors and neighbors of a fold.
        options: Of propagation.
        classes: Number of classes.
        extra: Extra images in each of the spaces; none by default.
    """
    carriers = found.carriers()
    beside = extra or [None] * len(carriers)
    done = [
        propagate(inputs, found.labels, classes, options, theirs)
        for inputs, theirs in zip(carriers, beside, strict=True)
    ]
    branches = [
        Branch(space, inputs.feature_map, one.head)
        for space, inputs, one in zip(found.spaces, carriers, done, strict=True)
    ]
    return branches, done
