"""Normalized vectors and neighbor lists, shared by the rungs on frozen vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.methods import PropagateOptions, PropagationInputs, prepare_inputs
from fallow.models import Space
from fallow.study.context import RungContext
from fallow.study.rung import Fold
from fallow.study.spaces import spaces_of


@dataclass(frozen=True)
class FrozenInputs:
    """What a fold may learn from.

    Attributes:
        spaces: The embeddings that vote; each in turn carries a head, all together make the graph.
        carriers: Vectors and neighbors with one of the spaces first, as many as spaces.
        labels: Class of each row, -1 for the pool, (rows,).
    """

    spaces: tuple[Space, ...]
    carriers: tuple[PropagationInputs, ...]
    labels: NDArray[np.int64]


def options_of(ctx: RungContext) -> PropagateOptions:
    """Return the options of propagation with what the user pinned."""
    asked = ctx.config.propagate
    pinned = {k: v for k in ("neighbors", "alpha") if (v := getattr(asked, k)) != "auto"}
    return PropagateOptions(**pinned)


def inputs_of(ctx: RungContext, fold: Fold | None) -> FrozenInputs:
    """Return the inputs of a fold: without its held-out labels anywhere, normalization and graph included."""
    spaces, options = spaces_of(ctx, fold), options_of(ctx)
    count, train = len(ctx.data.y), ctx.train_positions(fold)
    kept = np.ones(count + len(ctx.pool), bool)
    kept[:count] = np.isin(np.arange(count), train)
    labels = np.concatenate([ctx.data.y, np.full(len(ctx.pool), -1, np.int64)])
    key = ("run", "inputs-" + "+".join(space.key for space in spaces))
    if key not in ctx.scratch:
        ctx.scratch[key] = _prepare(ctx, spaces, np.ones(len(kept), bool), options)
    shared: tuple[PropagationInputs, ...] = ctx.scratch[key]
    if shared[0].pool_only:
        carriers = tuple(one.keep(kept, options.neighbors) for one in shared)
    else:
        # The pool is too small to normalize by: labeled images take part in it, so each fold makes its own.
        carriers = _prepare(ctx, spaces, kept, options)
    return FrozenInputs(spaces, carriers, labels[kept])


def _prepare(
    ctx: RungContext, spaces: tuple[Space, ...], kept: NDArray[np.bool_], options: PropagateOptions
) -> tuple[PropagationInputs, ...]:
    vectors = [
        np.concatenate([ctx.bank.pooled(s, ctx.labeled, "labeled"), ctx.bank.pooled(s, ctx.pool, "pool")])[
            kept
        ]
        for s in spaces
    ]
    pool = (np.arange(len(kept)) >= len(ctx.data.y))[kept]
    turns = [vectors[i:] + vectors[:i] for i in range(len(vectors))]
    return tuple(prepare_inputs(turn, pool, options, seed=ctx.config.seed) for turn in turns)
