"""Error against number of labels: cheap rungs fitted on nested parts of the labels, scored on labels they never saw.

Two things are measured. How often held-out labels are named wrongly is what is asked for, but a few hundred labels say it
to within a fifth of itself. How often two fits, each without another part of the labels, name an *unlabeled* image
differently costs no label, is known to a percent, and goes with the error ("Assessing Generalization of SGD via
Disagreement", Jiang et al., ICLR 2022, arXiv 2106.13799). So is how unsure fits are of those images on average: how fast this
falls with more labels says how fast the error will.

The held-out labels say more beside the unlabeled images: where those that were held out happen to be harder than most, a fit is
less sure of them, so that their error is corrected by how sure it is of all ("regression estimator", Cochran, Sampling
Techniques, 1977, chapter 7).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fallow.engine.seeds import derive
from fallow.models import DEFAULT_STRENGTH, Branch, EmbeddingClassifier, fit_logistic
from fallow.study.candidates import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs, options_of
from fallow.study.rung import Fold
from fallow.study.rungs.propagate import spread_heads
from fallow.types import RungName

Array = NDArray[np.float64]
Named = NDArray[np.int32]

PARTS = (1.0, 0.5, 0.25)
"""Parts of a fold's labels that are fitted on; each holds the next."""
_STEP = 1.5
"""How many times larger each part must be than the next: nearer points say the same twice."""
_TRUSTING = 20
"""Held-out images that a slope of one (a calibrated fit: as often wrong as it says) counts for against what was measured."""
_ASKED = 2000
"""Unlabeled images that are asked whether fits agree: of more the share is no surer than it needs to be."""


@dataclass(frozen=True)
class Curve:
    """What one rung got right with parts of the labels.

    Attributes:
        rung: ``probe`` or ``propagate``.
        sizes: Mean number of labels of each point, (points,), largest first.
        errors: Held-out error of each point, (points,).
        estimates: The same, corrected by how sure the fits are of held-out and of unlabeled images, (points,).
        covariance: Of the estimates, as the held-out images say, (points, points).
        images: Labeled images that were held out.
        disagreement: Share of unlabeled images that two fits of one repeat name differently, the mean over pairs,
            (points,); NaN without a pool or without two fits.
        doubt: One minus the probability of the likeliest class of unlabeled images, the mean over images and fits,
            (points,); NaN without a pool.
        folds: Into how many parts the labels were dealt: fits share the more labels the more there are.
    """

    rung: RungName
    sizes: Array
    errors: Array
    estimates: Array
    covariance: Array
    images: int
    disagreement: Array
    doubt: Array
    folds: int

    @property
    def fade(self) -> float:
        """How fast doubt falls from the second largest part of the labels to the largest: the exponent of a power law.

        NaN without a pool or with labels for one part only.
        """
        if len(self.sizes) < 2:
            return float("nan")
        return float(np.log(self.doubt[1] / self.doubt[0]) / np.log(self.sizes[0] / self.sizes[1]))


def parts_of(y: NDArray[np.int64], seed: int) -> list[NDArray[np.bool_]]:
    """Return nested, stratified parts of labels, the largest first: masks (labels,). Every class keeps a label.

    Args:
        y: Classes of the labels, (labels,).
        seed: Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    rank, count = np.empty(len(y)), np.bincount(y)
    for c in np.flatnonzero(count):
        members = rng.permutation(np.flatnonzero(y == c))
        rank[members] = np.arange(len(members))
    made: list[NDArray[np.bool_]] = []
    for part in PARTS:
        mask = rank < np.maximum(1, np.round(part * count[y]))
        if not made or mask.sum() * _STEP <= made[-1].sum():
            made.append(mask)
    return made


def fit_part(ctx: RungContext, found: FrozenInputs, rung: RungName) -> FrozenCandidate:
    """Fit a cheap rung on the labels that ``found`` knows."""
    classes = ctx.data.classes
    if rung == "propagate":
        branches, _ = spread_heads(found, options_of(ctx), len(classes))
        return FrozenCandidate(EmbeddingClassifier(branches, classes), ctx.bank)
    asked = ctx.config.probe.strength
    strength = DEFAULT_STRENGTH if asked == "auto" else float(asked)
    y, branches = found.labels[found.labels >= 0], []
    for space in found.spaces:
        feature_map, x = found.known(space)
        head = fit_logistic(x, y, n_classes=len(classes), strength=strength)
        branches.append(Branch(space, feature_map, head))
    return FrozenCandidate(EmbeddingClassifier(branches, classes), ctx.bank)


@dataclass
class _Tally:
    """What one rung said with one part of the labels, over all folds."""

    wrong: Array
    unsure: Array
    doubt: list[float] = field(default_factory=list)
    named: dict[int, list[Named]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)


def measure(ctx: RungContext, folds: Sequence[Fold], rungs: Sequence[RungName], parts: int) -> list[Curve]:
    """Fit each rung on parts of each fold's labels and score it on the labels that the fold holds out.

    The labels of a fold that a part leaves out are unlabeled images to it, as they were before they were given.

    Args:
        ctx: Data and vectors.
        folds: What is held out, repeat by repeat.
        rungs: Which rungs.
        parts: Into how many parts the labels were dealt.
    """
    count = len(ctx.data.y)
    tallies: dict[tuple[RungName, int], _Tally] = {}
    seen = np.zeros(count)
    asked = ctx.data.images(ctx.data.pool_ids[:: max(1, len(ctx.data.pool_ids) // _ASKED)])
    done, started = 0, time.monotonic()
    for number, fold in enumerate(folds):
        # The first fit pays for what all share: from the second on a fold tells what the next one takes.
        if number > 1 and ctx.clock.left < time.monotonic() - started:
            ctx.tell(f"The curves were measured on {done} of {len(folds)} folds: the budget allowed no more.")
            break
        started = time.monotonic()
        ctx.progress("learning curve", number, len(folds))
        found, train = FrozenInputs(ctx, fold), ctx.train_positions(fold)
        held_out = ctx.data.images(tuple(ctx.data.labeled_ids[i] for i in fold.held_out))
        seen[fold.held_out] += 1
        masks = parts_of(ctx.data.y[train], derive(ctx.config.seed, "forecast", fold.key))
        for part, mask in enumerate(masks):
            known = found.only(mask)
            for rung in rungs:
                made = fit_part(ctx, known, rung)
                tally = tallies.setdefault((rung, part), _Tally(np.zeros(count), np.zeros(count)))
                tally.sizes.append(int(mask.sum()))
                probs = made.probs(held_out, "labeled")
                tally.wrong[fold.held_out] += probs.argmax(1) != ctx.data.y[fold.held_out]
                tally.unsure[fold.held_out] += 1 - probs.max(1)
                if len(asked):
                    probs = made.probs(asked, "pool")
                    tally.doubt.append(float(1 - probs.max(1).mean()))
                    tally.named.setdefault(fold.repeat, []).append(probs.argmax(1).astype(np.int32))
        ctx.drop_scratch(fold)
        done += 1
    return [_curve(rung, tallies, seen, done, parts) for rung in rungs]


def _curve(
    rung: RungName, tallies: dict[tuple[RungName, int], _Tally], seen: Array, folds: int, parts: int
) -> Curve:
    # A point that some folds had too few labels for is another point in each: left out.
    whole = [
        tally for (name, _), tally in sorted(tallies.items()) if name == rung and len(tally.sizes) == folds
    ]
    held_out = seen > 0
    wrong = np.stack([tally.wrong[held_out] / seen[held_out] for tally in whole])
    unsure = np.stack([tally.unsure[held_out] / seen[held_out] for tally in whole])
    doubt = np.array([np.mean(tally.doubt) if tally.doubt else np.nan for tally in whole])
    estimates, covariance = steadied(wrong, unsure, doubt)
    return Curve(
        rung,
        np.array([np.mean(tally.sizes) for tally in whole]),
        wrong.mean(1),
        estimates,
        covariance,
        wrong.shape[1],
        np.array([_disagreement(tally.named) for tally in whole]),
        doubt,
        parts,
    )


def steadied(wrong: Array, unsure: Array, doubt: Array) -> tuple[Array, Array]:
    """Return held-out errors corrected by how sure the fits are, (points,), and their covariance, (points, points).

    Args:
        wrong: How often each held-out image was named wrongly, (points, images).
        unsure: How unsure fits were of it, (points, images).
        doubt: How unsure they are of unlabeled images on average, (points,); NaN without a pool: nothing is corrected.
    """
    count = wrong.shape[1]
    apart = unsure - unsure.mean(1, keepdims=True)
    slope = (wrong * apart).mean(1) / ((apart**2).mean(1) + 1e-6)
    slope = np.where(np.isfinite(doubt), (slope * count + _TRUSTING) / (count + _TRUSTING), 0.0)
    away = unsure.mean(1) - np.where(np.isfinite(doubt), doubt, 0.0)
    rest = wrong - slope[:, None] * unsure
    return np.clip(wrong.mean(1) - slope * away, 0.0, 1.0), np.atleast_2d(np.cov(rest)) / count


def _disagreement(named: dict[int, list[Named]]) -> float:
    """Return the share of images that two fits of one repeat name differently, the mean over pairs."""
    pairs = [float((one != other).mean()) for fits in named.values() for one, other in combinations(fits, 2)]
    return float(np.mean(pairs)) if pairs else float("nan")
