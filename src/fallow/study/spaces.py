"""Which views may vote? Decided inside each fold, by reach without trespass on the pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.config import View
from fallow.models import FLIP, PIXELS, Space, view_indices
from fallow.record import Decision
from fallow.study.context import RungContext
from fallow.study.rung import Fold
from fallow.types import Json

_TRUST = 0.85
"""A view is used when its neighbors keep the class at least this often, relative to the untouched image's. Measured
on dev splits: left-right flips of photos 0.98-1.02, quarter turns of aerial photos 0.88-0.92 (help), quarter turns of
clothes 0.4-0.5 and of digits 0.7 (do not)."""
SPACES = "spaces"
"""Name under which a fold's spaces are shared."""
_SAMPLE = 256
_REFERENCE = 5000


@dataclass(frozen=True)
class ViewProbe:
    """Nearest neighbors of a sample of the pool, of the untouched images and of their views.

    They depend on no label, so that all folds share them; only the classes they are read with are a fold's own.

    Attributes:
        sample: Positions of the sampled images in the reference, (m,).
        untouched: Nearest other image of each, (m,).
        moved: Per view, the nearest other image of the moved image, (m,).
        vectors: Reference vectors, unit length, (r, d).
    """

    sample: NDArray[np.int64]
    untouched: NDArray[np.int64]
    moved: dict[int, NDArray[np.int64]]
    vectors: NDArray[np.float32]


def _unit(x: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    centered = np.sign(x) * np.sqrt(np.abs(x)) - mean
    return np.asarray(
        centered / np.maximum(np.linalg.norm(centered, axis=-1, keepdims=True), 1e-12), np.float32
    )


def probe_views(ctx: RungContext, name: str, size: int, allowed: View) -> ViewProbe:
    """Embed a sample of the pool under all views that the budget allows and find the neighbors of each."""
    images = ctx.pool if len(ctx.pool) >= 2 * len(ctx.data.classes) else ctx.labeled
    rng = np.random.default_rng(ctx.config.seed)
    everything = ctx.bank.pooled(ctx.bank.space(name, size, "none"), images, "pool")
    reference = np.sort(rng.permutation(len(everything))[:_REFERENCE])
    raw = everything[reference]
    mean = np.asarray((np.sign(raw) * np.sqrt(np.abs(raw))).mean(0), np.float32)
    vectors = _unit(raw, mean)
    sample = np.sort(rng.permutation(len(reference))[:_SAMPLE])
    ids = tuple(images.ids[i] for i in reference[sample])
    seen = ctx.bank.compute(ctx.bank.space(name, size, allowed), ctx.data.images(ids), "views of a sample")

    def nearest(view: NDArray[np.float32]) -> NDArray[np.int64]:
        similarity = _unit(view, mean) @ vectors.T
        similarity[np.arange(len(sample)), sample] = -np.inf
        return similarity.argmax(1)

    moved = {v: nearest(seen[:, i]) for i, v in enumerate(view_indices(allowed)) if v != 0}
    return ViewProbe(sample, nearest(seen[:, 0]), moved, vectors)


@dataclass(frozen=True)
class ViewTrust:
    """How well one embedding keeps classes together, and how much of that is left when images are moved.

    Attributes:
        name: The backbone.
        base: Agreement of nearest neighbors of untouched images, corrected for chance (Cohen, 1960).
        flip: The same of left-right flipped images, as a share of ``base``; 0 where not measured.
        turns: The same of turned images, the mean over seven views.
    """

    name: str
    base: float
    flip: float
    turns: float

    @property
    def views(self) -> View:
        """The largest set of views that keeps the class."""
        if self.flip < _TRUST:
            return "none"
        return "turns" if self.turns >= _TRUST else "flip"


def measure_trust(ctx: RungContext, fold: Fold | None, name: str, size: int, allowed: View) -> ViewTrust:
    """Measure reach without trespass of the views in one embedding, with the labels of this fold only.

    A class is given to each reference image by the nearest class mean of the fold's training labels; a view is
    trusted when the neighbors of moved images have the class of the untouched one nearly as often as the neighbors of
    untouched images do. This asks thousands of unlabeled images, where counting right answers would ask a few labels.
    """
    key = ("run", f"views-{name}-{size}-{allowed}")
    if key not in ctx.scratch:
        ctx.scratch[key] = probe_views(ctx, name, size, allowed)
    probe: ViewProbe = ctx.scratch[key]
    train = ctx.train_positions(fold)
    labeled = ctx.bank.pooled(ctx.bank.space(name, size, "none"), ctx.labeled, "labeled")[train]
    y = ctx.data.y[train]
    mean = np.asarray((np.sign(labeled) * np.sqrt(np.abs(labeled))).mean(0), np.float32)
    unit = _unit(labeled, mean)
    centers = np.stack([unit[y == c].mean(0) for c in range(len(ctx.data.classes))])
    named = (probe.vectors @ centers.T).argmax(1)
    own = named[probe.sample]

    def agreement(where: NDArray[np.int64]) -> float:
        chance = float(
            np.bincount(own, minlength=len(centers)) @ np.bincount(named[where], minlength=len(centers))
        )
        chance /= len(own) ** 2
        return (float((named[where] == own).mean()) - chance) / max(1 - chance, 1e-9)

    base = max(agreement(probe.untouched), 1e-9)
    share = {v: max(agreement(where), 0.0) / base for v, where in probe.moved.items()}
    others = [s for v, s in share.items() if v != FLIP]
    return ViewTrust(name, base, share.get(FLIP, 0.0), float(np.mean(others)) if others else 0.0)


def decide_views(ctx: RungContext, fold: Fold | None) -> tuple[View, Decision]:
    """Decide which views vote. What may be done to an image is a matter of the images and not of the backbone.

    So every embedding is asked, and one that objects is enough: a photo backbone that hardly sees a difference between
    digits sees none between a digit and its mirror image either, where the plain pixels do.
    """
    asked, plan = ctx.config.embed.views, ctx.plan
    if asked != "auto":
        return asked, Decision("embed.views", asked, "user", "Asked for.", pinned=True)
    allowed = max(plan.views, key=_count)
    if allowed == "none":
        why = (
            "Pixels have no invariances to average over."
            if set(plan.backbones) == {PIXELS}
            else "The budget allows one view."
        )
        return "none", Decision("embed.views", "none", "rule", why)
    found = [
        measure_trust(ctx, fold, name, size, "turns" if name == PIXELS else views)
        for name, size, views in zip(plan.backbones, plan.sizes, plan.views, strict=True)
    ]
    judge = min(found, key=lambda one: (_count(one.views), one.flip))
    evidence: dict[str, Json] = {
        "flip": round(judge.flip, 3),
        "turns": round(judge.turns, 3),
        "needed": _TRUST,
        "untouched": round(judge.base, 3),
        "seen_by": judge.name,
    }
    rule = (
        "Views whose neighbors keep the class nearly as often as the untouched image's (reach without trespass), for "
        "every backbone that votes."
    )
    value = min(judge.views, allowed, key=_count)
    return value, Decision("embed.views", value, "search", rule, evidence)


def _count(views: View) -> int:
    """Return the number of views in a set."""
    return len(view_indices(views))


def spaces_of(ctx: RungContext, fold: Fold | None) -> tuple[Space, ...]:
    """Return the spaces that this fold votes over, decided with its own labels and shared by its rungs."""
    key = (ctx.scratch_key(fold), SPACES)
    if key not in ctx.scratch:
        views, decision = decide_views(ctx, fold)
        if fold is None:
            ctx.decisions.add(decision)
        pinned = ctx.config.embed.views != "auto"
        plan = zip(ctx.plan.backbones, ctx.plan.sizes, ctx.plan.views, strict=True)
        ctx.scratch[key] = tuple(
            ctx.bank.space(name, size, views if pinned else min(views, most, key=_count))
            for name, size, most in plan
        )
    spaces: tuple[Space, ...] = ctx.scratch[key]
    return spaces
