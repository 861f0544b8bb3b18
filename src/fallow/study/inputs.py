"""Normalized vectors and neighbor lists, shared by the rungs on frozen vectors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fallow.methods import (
    Neighbors,
    PropagateOptions,
    PropagationInputs,
    knows_enough,
    list_neighbors,
    map_features,
)
from fallow.models import FeatureMap, Space
from fallow.study.context import RungContext
from fallow.study.rung import Fold
from fallow.study.spaces import spaces_of

Made = TypeVar("Made")
Array = NDArray[np.float32]

_KEPT_ROWS = 20_000
"""Up to this many images a fold's own artefacts wait for the next rung; of more, all folds at once would fill the memory."""


class FrozenInputs:
    """What a fold may learn from: without its held-out labels anywhere, normalization and graph included.

    Everything is made when it is first asked for, once per space: the labels alone need no neighbor lists. With a pool
    that knows enough to normalize by, all folds share the artefacts and drop rows; else labeled images take part in
    them and each fold makes its own, which wait in ``ctx.scratch`` for the rungs above.

    Attributes:
        spaces: The embeddings that vote; each in turn carries a head, all together make the graph.
        labels: Class of each row, -1 for the pool, (rows,).
    """

    def __init__(self, ctx: RungContext, fold: Fold | None, beside: tuple[Space, ...] = ()) -> None:
        """Make nothing yet; ``beside`` are spaces of networks that the run trained, which vote as well."""
        self.spaces = (*spaces_of(ctx, fold), *beside)
        self._ctx, self._options = ctx, options_of(ctx)
        count, unlabeled = len(ctx.data.y), len(ctx.data.pool_ids)
        train = ctx.train_positions(fold)
        everyone = np.arange(count + unlabeled) >= count
        shared = knows_enough(everyone)
        self._owner = "run" if shared else ctx.scratch_key(fold)
        self._made_of = np.arange(count) if shared else train
        self._pool = np.concatenate([np.zeros(len(self._made_of), bool), np.ones(unlabeled, bool)])
        # Rows of the artefacts that this fold may see; None where they are its own.
        self._kept = (
            np.concatenate([np.isin(np.arange(count), train), np.ones(unlabeled, bool)]) if shared else None
        )
        self.labels = np.concatenate([ctx.data.y[train], np.full(unlabeled, -1, np.int64)])

    def only(self, known: NDArray[np.bool_]) -> Self:
        """Return inputs in which fewer labels are known: the other labeled images are as good as unlabeled.

        Args:
            known: Which of the labels that this fold may see are known, (labels,).
        """
        made = copy.copy(self)
        made.labels = self.labels.copy()
        made.labels[: len(known)][~known] = -1
        return made

    def known(self, space: Space) -> tuple[FeatureMap, Array]:
        """Return the map of a space and the mapped vectors of the labels that are known, (labels, k)."""
        feature_map, features = self._head(space)
        labeled = self._seen(features)
        return feature_map, labeled[self.labels[: len(labeled)] >= 0]

    def apart(self, space: Space) -> tuple[Array, Array]:
        """Return the mapped vectors of the known labels, (labels, k), and of the pool, (pool, k)."""
        _, labeled = self.known(space)
        _, features = self._head(space)
        return labeled, features[len(self._made_of) :]

    def extra(self, space: Space) -> Array:
        """Return the mapped vectors of the extra images, (extra, k); the map has not learned from them."""
        ctx = self._ctx
        feature_map, _ = self._head(space)
        return self._once(
            f"extra-{space.key}",
            lambda: feature_map.transform(ctx.bank.pooled(space, ctx.extra, "extra images")),
        )

    def _seen(self, features: Array) -> Array:
        """Return the rows of labeled images that this fold may see."""
        labeled = features[: len(self._made_of)]
        return labeled if self._kept is None else labeled[self._kept[: len(labeled)]]

    def carriers(self) -> tuple[PropagationInputs, ...]:
        """Return vectors and neighbor lists with each of the spaces first, as many as spaces."""
        lists = [self._neighbors(space) for space in self.spaces]
        made = []
        for number, space in enumerate(self.spaces):
            feature_map, features = self._head(space)
            if self._kept is not None and not self._kept.all():
                features = features[self._kept]
            turn = (*lists[number:], *lists[:number])
            made.append(PropagationInputs(feature_map, features, turn, self._kept is not None))
        return tuple(made)

    def _head(self, space: Space) -> tuple[FeatureMap, Array]:
        return self._once(
            f"features-{space.key}", lambda: map_features(self._vectors(space), self._pool, self._options)
        )

    def _neighbors(self, space: Space) -> Neighbors:
        seed = self._ctx.config.seed
        found = self._once(
            f"neighbors-{space.key}",
            lambda: list_neighbors(self._vectors(space), self._pool, self._options, seed=seed),
        )
        return found if self._kept is None else found.keep(self._kept, self._options.neighbors)

    def _vectors(self, space: Space) -> tuple[Array, ...]:
        """Return the vectors that the artefacts are made of, labeled images first."""
        ctx = self._ctx
        labeled = ctx.bank.pooled(space, ctx.labeled, "labeled")
        own = labeled if len(self._made_of) == len(labeled) else labeled[self._made_of]
        return own, ctx.bank.pooled(space, ctx.pool, "pool")

    def _once(self, name: str, make: Callable[[], Made]) -> Made:
        key, scratch = (self._owner, name), self._ctx.scratch
        if key in scratch:
            found: Made = scratch[key]
            return found
        made = make()
        if self._owner == "run" or len(self._pool) + len(self._ctx.data.extra_ids) <= _KEPT_ROWS:
            scratch[key] = made
        return made


def options_of(ctx: RungContext) -> PropagateOptions:
    """Return the options of propagation with what the user pinned."""
    asked = ctx.config.propagate
    pinned = {k: v for k in ("neighbors", "alpha") if (v := getattr(asked, k)) != "auto"}
    return PropagateOptions(**pinned)
