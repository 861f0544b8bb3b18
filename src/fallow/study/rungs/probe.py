"""Rung 2: a linear model on the vectors of the labels alone. The honest opponent of everything above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fallow.methods import fit_with_extra
from fallow.models import DEFAULT_STRENGTH, Branch, EmbeddingClassifier, fit_logistic
from fallow.record import Decision
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.extra import extra_rows
from fallow.study.inputs import FrozenInputs
from fallow.study.rung import Candidate, Cost, Fold, Rung, RungInfo
from fallow.study.strength import SEARCH_FROM, labels_strength
from fallow.study.worth import FitScore
from fallow.types import Json, JsonObject, RungName


class ProbeRung(Rung):
    """L2-regularized multinomial logistic regression on normalized frozen vectors."""

    info: ClassVar[RungInfo] = RungInfo(
        "probe", "linear model on frozen vectors, labels only", True, True, False
    )

    def estimate(self, ctx: RungContext) -> Cost:
        """Return the time of one fit."""
        return Cost(0.05 + len(ctx.data.y) * len(ctx.data.classes) * 2e-5)

    def fit(
        self,
        ctx: RungContext,
        fold: Fold | None,
        below: Mapping[RungName, Candidate],
        steps: int | None = None,
    ) -> Candidate:
        """Fit a head for each space; their log-probabilities are averaged."""
        branches, figures = fitted_heads(ctx, fold, FrozenInputs(ctx, fold))
        if fold is None:
            _record(ctx, figures)
        return FrozenCandidate(EmbeddingClassifier(branches, ctx.data.classes), ctx.bank)

    def restore(
        self, ctx: RungContext, tensors: dict[str, NDArray[np.generic]], meta: JsonObject
    ) -> Candidate:
        """Rebuild a candidate from its state."""
        return FrozenCandidate.from_state(tensors, meta, ctx.bank)

    def curve(self, ctx: RungContext) -> FitScore:
        """Return a function that fits the probe on some labels and scores it on others, for learning curves."""
        found, classes = FrozenInputs(ctx, None), len(ctx.data.classes)
        _, x = found.known(found.spaces[0])
        y = ctx.data.y

        def fit_score(train: NDArray[np.int64], held_out: NDArray[np.int64]) -> NDArray[np.float64]:
            head = fit_logistic(x[train], y[train], n_classes=classes, strength=DEFAULT_STRENGTH)
            return (head.logits(x[held_out]).argmax(1) == y[held_out]).astype(np.float64)

        return fit_score


def fitted_heads(
    ctx: RungContext, fold: Fold | None, found: FrozenInputs, mass: float = 0.0
) -> tuple[list[Branch], list[tuple[float, dict[str, Json]]]]:
    """Return a linear head for each space, and the strength of each with what it was chosen by.

    Args:
        ctx: Data and vectors.
        fold: What is held out; None is the final refit.
        found: The inputs of the fold.
        mass: What all extra images together count, in terms of the labels.
    """
    y, classes = found.labels[found.labels >= 0], len(ctx.data.classes)
    branches, figures = [], []
    for space in found.spaces:
        feature_map, x = found.known(space)
        strength, evidence = labels_strength(ctx, fold, x, y, classes)
        head = fit_with_extra(x, y, classes, strength, extra_rows(ctx, found, space, mass))
        figures.append((strength, evidence))
        branches.append(Branch(space, feature_map, head))
    return branches, figures


def _record(ctx: RungContext, figures: list[tuple[float, dict[str, Json]]]) -> None:
    strength, evidence = figures[0]
    pinned = ctx.config.probe.strength != "auto"
    searched = not pinned and len(evidence) > 1
    rule = (
        "Asked for."
        if pinned
        else "Lowest held-out loss inside the training labels."
        if searched
        else f"Below {SEARCH_FROM} labels the default of many data sets knows more than a few labels do."
    )
    source = "user" if pinned else "search" if searched else "rule"
    ctx.decisions.add(Decision("probe.strength", strength, source, rule, evidence, pinned))  # type: ignore[arg-type]
