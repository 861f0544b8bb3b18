"""How many of those who could have named another class name the same: neighbors, views, models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fallow.study.candidates import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs, options_of

Floats = NDArray[np.float64]
_ROWS = 4096


def by_neighbors(ctx: RungContext, guess: NDArray[np.int64], classes: NDArray[np.int64]) -> Floats:
    """Return the share of each pool image's nearest images, labeled and not, that are taken for the same class, (pool,).

    Args:
        ctx: Data and vectors.
        guess: Class named for each pool image, (pool,).
        classes: Class of each labeled image, numbered alike, (labels,).
    """
    carrier = FrozenInputs(ctx, None).carriers()[0]
    named = np.concatenate([classes, guess])
    rows = np.arange(len(classes), len(named))
    shares = []
    for one in carrier.neighbors:
        near = one.index[rows, : options_of(ctx).neighbors]
        real = near != rows[:, None]  # a row with too few neighbors is filled up with itself
        same = ((named[near] == guess[:, None]) & real).sum(1)
        shares.append(same / np.maximum(real.sum(1), 1))
    return np.asarray(np.mean(shares, axis=0), np.float64)


def by_views(ctx: RungContext, candidate: FrozenCandidate, guess: NDArray[np.int64]) -> Floats | None:
    """Return the share of views that are taken for the same class, (pool,); None where there is one view.

    Views of some images at a time: all views of a large pool would fill the memory.
    """
    spaces = candidate.classifier.spaces
    same = np.zeros(len(ctx.pool))
    most = 1
    for start in range(0, len(ctx.pool), _ROWS):
        part = ctx.pool.part(slice(start, start + _ROWS))
        seen = {space.key: ctx.bank.compute(space, part, "views", (start, len(ctx.pool))) for space in spaces}
        most = max(vectors.shape[1] for vectors in seen.values())
        if most == 1:
            return None
        for view in range(most):
            one = {key: vectors[:, [view % vectors.shape[1]]] for key, vectors in seen.items()}
            named = candidate.classifier.predict_probs(one).argmax(1)
            same[start : start + len(part)] += named == guess[start : start + len(part)]
    return np.asarray(same / most, np.float64)


def by_models(guesses: Sequence[NDArray[np.int64]], guess: NDArray[np.int64]) -> Floats | None:
    """Return the share of models that name the same class, (pool,); None for a single model."""
    if len(guesses) < 2:
        return None
    return np.asarray(np.mean([one == guess for one in guesses], axis=0), np.float64)


def agreement(shares: Sequence[Floats | None], count: int) -> Floats:
    """Return the mean of the shares that there are, (count,); NaN where nobody could be asked."""
    there = [share for share in shares if share is not None]
    return np.asarray(np.mean(there, axis=0), np.float64) if there else np.full(count, np.nan)
