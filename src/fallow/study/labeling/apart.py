"""Every pool image named by a model that did not learn from that image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fallow.engine import derive
from fallow.methods import propagate
from fallow.models import Branch, EmbeddingClassifier
from fallow.study.candidates import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs, options_of

Rows = NDArray[np.bool_]
Maker = Callable[[Rows, Rows], EmbeddingClassifier]
"""Makes a classifier of those of the labels that a fit may see, (labels,), and of the pool, (pool,), that stay."""

PARTS = 5


def said_apart(ctx: RungContext, temperature: float, parts: int = PARTS) -> NDArray[np.float32]:
    """Return what propagation says of the pool, (pool, classes), each part of it by heads fitted without that part.

    A head that learned from an image's own pseudo-label is surer of it than it is of images that it never met, such as the
    held-out labels that its sureness is measured on: on a development draw of UC Merced with 10 labels a class it is right on
    95.2 % of the pool that it is at least 0.8 sure of, on held-out images on 98.0 %. Taken apart, both are met alike (97.9 %), and
    no fewer are named rightly.

    Args:
        ctx: Data and vectors.
        temperature: What log-probabilities are divided by.
        parts: Into how many parts the pool is dealt.
    """
    make, labels = spreading(ctx, FrozenInputs(ctx, None)), np.ones(len(ctx.data.y), bool)
    return in_parts(ctx, lambda stay: make(labels, stay), temperature, parts)


def spreading(ctx: RungContext, inputs: FrozenInputs) -> Maker:
    """Return what spreads labels, of some of the images alone, and makes a classifier of it."""
    options, carriers, classes = options_of(ctx), inputs.carriers(), ctx.data.classes

    def make(labels: Rows, pool: Rows) -> EmbeddingClassifier:
        kept = np.concatenate([labels, pool])
        done = [
            propagate(one.keep(kept, options.neighbors), inputs.labels[kept], len(classes), options)
            for one in carriers
        ]
        branches = [
            Branch(space, one.feature_map, made.head)
            for space, one, made in zip(inputs.spaces, carriers, done, strict=True)
        ]
        return EmbeddingClassifier(branches, classes)

    return make


def in_parts(
    ctx: RungContext,
    make: Callable[[Rows], EmbeddingClassifier],
    temperature: float = 1.0,
    parts: int = PARTS,
) -> NDArray[np.float32]:
    """Return what is said of the pool, (pool, classes), each part of it by a classifier made without that part.

    Args:
        ctx: Data and vectors.
        make: Makes a classifier of the pool images that stay, (pool,).
        temperature: What log-probabilities are divided by.
        parts: Into how many parts the pool is dealt, always alike.
    """
    order = np.random.default_rng(derive(ctx.config.seed, "label parts")).permutation(len(ctx.pool))
    part = np.empty(len(order), np.int64)
    part[order] = np.arange(len(order)) % parts
    said = np.empty((len(order), len(ctx.data.classes)), np.float32)
    for number in range(parts):
        ctx.progress("labels, part by part", number, parts)
        rows = np.flatnonzero(part == number)
        if not len(rows):
            continue
        heads = FrozenCandidate(make(part != number).tempered(temperature), ctx.bank)
        said[rows] = heads.probs(ctx.data.images(tuple(ctx.data.pool_ids[row] for row in rows)), "pool")
    return said
