"""What to label next: what is typical and uncertain, and unlike all that is labeled or suggested already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.config.suggest import SuggestConfig
from fallow.methods import Neighbors, prepare_inputs
from fallow.record.next_labels import Suggestion, Suggestions
from fallow.report.words import plural
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs, options_of
from fallow.study.rungs.propagate import spread_heads
from fallow.study.suggesting.cover import Array, Picked, nearest, pick
from fallow.study.trained.foreign import foreign_images

_EVEN = 0.2
"""Weight that an image has of which nothing is uncertain, beside 1 for one that is a toss-up: a model of few labels is sure
of things that it has never seen."""
_MARGIN_FROM = 20.0
"""Labels a class from which only the most uncertain are looked at: the model's doubt then knows where it errs."""
_SHORT_LIST = 10
"""How many times more uncertain images are looked at than are asked for."""
_FEW = 50
_LONELY = 4.0
"""Robust standard deviations below the median of nearness to neighbors, from which an image is like no other."""


@dataclass(frozen=True)
class Pool:
    """All images as the choice sees them: labeled first, then the unlabeled.

    Attributes:
        features: Unit vectors in each embedding, (n, d).
        neighbors: Neighbor lists in each embedding.
        labels: Class of each, -1 where unlabeled, (n,).
        probs: What each unlabeled image is taken for, (pool, classes); None where nothing was learned yet.
    """

    features: tuple[Array, ...]
    neighbors: tuple[Neighbors, ...]
    labels: NDArray[np.int64]
    probs: Array | None


def look(ctx: RungContext) -> Pool:
    """Return the images as the choice sees them; with labels of two classes they are propagated first."""
    classes = len(ctx.data.classes)
    if classes >= 2 and len(ctx.data.pool_ids):
        found = FrozenInputs(ctx, None)
        carriers = found.carriers()
        _, done = spread_heads(found, options_of(ctx), classes)
        features, lists, labels = tuple(c.features for c in carriers), carriers[0].neighbors, found.labels
        return Pool(features, lists, labels, np.mean([one.probs for one in done], axis=0, dtype=np.float32))
    labels = np.concatenate([ctx.data.y, np.full(len(ctx.data.pool_ids), -1, np.int64)])
    spaces = [
        ctx.bank.space(name, size, "none")
        for name, size in zip(ctx.plan.backbones, ctx.plan.sizes, strict=True)
    ]
    vectors = [
        np.concatenate([ctx.bank.pooled(space, images) for images in (ctx.labeled, ctx.pool) if len(images)])
        for space in spaces
    ]
    made = [
        prepare_inputs(vectors[i:] + vectors[:i], labels < 0, options_of(ctx), seed=ctx.config.seed)
        for i in range(len(vectors))
    ]
    return Pool(tuple(one.features for one in made), made[0].neighbors, labels, None)


def doubt(probs: Array) -> Array:
    """Return one minus the margin between the two likeliest classes, (n,): 1 for a toss-up, 0 for certainty."""
    two = np.partition(probs, probs.shape[1] - 2, axis=1)[:, -2:]
    return np.asarray(1.0 - (two[:, 1] - two[:, 0]), np.float32)


def lonely(neighbors: tuple[Neighbors, ...]) -> NDArray[np.bool_]:
    """Return which images are like no other, (n,): their neighbors are far, compared with those of all images.

    None of a few: what is usual among them is not known.
    """
    if len(neighbors[0]) < _FEW:
        return np.zeros(len(neighbors[0]), bool)
    near = np.mean([one.similarity.mean(1) for one in neighbors], axis=0)
    middle = float(np.median(near))
    spread = 1.4826 * float(np.median(np.abs(near - middle)))
    return np.asarray(near < middle - _LONELY * max(spread, 1e-6))


@dataclass(frozen=True)
class Chosen:
    """What was chosen and what was left out.

    Attributes:
        picked: The choice.
        aside: Unlabeled images that look like none of the others, (pool,).
    """

    picked: Picked
    aside: NDArray[np.bool_]


def choose(ctx: RungContext, pool: Pool, count: int) -> Chosen:
    """Choose what to label next, the most useful first, and write down by which rule."""
    known, unlabeled = np.flatnonzero(pool.labels >= 0), np.flatnonzero(pool.labels < 0)
    aside = lonely(pool.neighbors)[unlabeled]
    if pool.probs is not None:
        aside |= foreign_images(ctx, None)
    candidates = unlabeled[~aside]
    weights = np.zeros(len(pool.labels))
    per_class = ctx.data.per_class if len(ctx.data.y) else 0.0
    if pool.probs is None:
        strategy, rule = (
            "typical",
            "Without labels of two classes: images that stand for as many others as possible.",
        )
        weights[candidates] = 1.0
    else:
        unsure = doubt(pool.probs)[~aside]
        weights[candidates] = unsure + _EVEN
        strategy = "typical and uncertain"
        rule = "Images that stand for many others of which the model is unsure, unlike all that is labeled."
        if per_class >= _MARGIN_FROM:
            strategy = "margin"
            rule = f"From {_MARGIN_FROM:.0f} labels a class: of the {_SHORT_LIST}-fold most uncertain those that stand for the others."
            candidates = candidates[np.argsort(-unsure, kind="stable")[: _SHORT_LIST * count]]
    ctx.decide("suggest.strategy", strategy, rule, evidence={"labels_a_class": per_class})
    picked = pick(
        pool.features, known, np.sort(candidates), weights, count, seed=ctx.config.seed, progress=ctx.progress
    )
    return Chosen(picked, aside)


def tell(ctx: RungContext, pool: Pool, chosen: Chosen, config: SuggestConfig, named: str) -> Suggestions:
    """Put a choice into plain values and words."""
    unlabeled, picked = np.flatnonzero(pool.labels < 0), chosen.picked
    ids = dict(zip(unlabeled.tolist(), ctx.data.pool_ids, strict=True))
    places = {int(row): place for place, row in enumerate(unlabeled)}
    # An image that is nearer to a labeled one is no suggestion's: that label speaks for it.
    had = np.concatenate([picked.rows, np.flatnonzero(pool.labels >= 0)])
    owner = nearest(pool.features, unlabeled, had) if len(had) else np.zeros(0, np.int64)
    size = np.bincount(owner, minlength=max(len(had), 1))
    items = []
    for number, row in enumerate(picked.rows.tolist()):
        guess, second, confidence = _guess(ctx, pool, places[row])
        why = f"stands for {plural(int(size[number]), 'image')}"
        if guess is not None and confidence < 0.9:
            why += f"; {guess} or {second}?"
        items.append(
            Suggestion(
                path=ids[row],
                reason=why,
                score=round(float(picked.gains[number] / max(picked.gains[0], 1e-12)), 4),
                cluster=number + 1,
                like=round(float(size[number] / len(unlabeled)), 5),
                guess=guess,
                confidence=round(confidence, 4),
            )
        )
    foreign = int(chosen.aside.sum())
    return Suggestions(
        data=named,
        seed=config.seed,
        counts=ctx.data.counts,
        asked=config.n,
        items=tuple(items),
        sentence=_sentence(ctx, len(items), config.n),
        foreign=foreign,
        twins=picked.twins,
        notes=tuple(_notes(foreign, picked.twins)),
        decisions=tuple(ctx.decisions),
    )


def _guess(ctx: RungContext, pool: Pool, place: int) -> tuple[str | None, str, float]:
    if pool.probs is None:
        return None, "", 0.0
    order = np.argsort(-pool.probs[place], kind="stable")
    names = ctx.data.classes
    return names[order[0]], names[order[1]], float(pool.probs[place, order[0]])


def _sentence(ctx: RungContext, count: int, asked: int) -> str:
    if not count:
        return "There is no image to suggest: all are labeled, or nearly the same as one that is."
    start = "" if len(ctx.data.y) else " to begin with"
    fewer = f" ({asked:,} were asked for, and there are no more)" if count < asked else ""
    return f"Label {'this image' if count == 1 else f'these {count:,} images'}{start}, in this order{fewer}."


def _notes(foreign: int, twins: int) -> list[str]:
    notes = []
    if foreign:
        notes.append(
            f"{plural(foreign, 'unlabeled image')} {'was' if foreign == 1 else 'were'} left out: like none of the others, or "
            "too far from every label to be of one of your classes."
        )
    if twins:
        notes.append(
            f"{plural(twins, 'image')} {'was' if twins == 1 else 'were'} passed over: nearly the same as one that is labeled or "
            "suggested."
        )
    return notes
