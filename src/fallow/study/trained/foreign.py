"""Images of no class: a pool from the real world holds some, and a network that is made to name them learns nonsense."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fallow.record import Decision
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs
from fallow.study.rung import Fold

_FALSE_SHARE = 0.2
"""Of the images that are set aside, so many may belong to a class."""
_MOST = 1 / 3
"""More than this set aside tells that the labels are no random draw (one camera, one writer), not that the pool is foreign."""
_ROWS = 4096
_UNLIKELY = 0.05
"""Where dropping was asked for: images are set aside that so few of the labeled ones are as far away as."""


def foreign_images(ctx: RungContext, fold: Fold | None) -> NDArray[np.bool_]:
    """Return which pool images are of no class, (pool,), by the labels of this fold alone.

    How near is an image to the nearest labeled one? A labeled image's own distance to the nearest other says how near
    images of these classes are, with this many labels: the rank among those is a p-value that holds whatever the vectors
    are (conformal outlier detection, Bates et al., Annals of Statistics 2023, arXiv 2104.08279). Images are set aside by
    the Benjamini-Hochberg rule: none where no more of them are unlikely than chance would have it.
    """
    key = (ctx.scratch_key(fold), "foreign")
    if key not in ctx.scratch:
        ctx.scratch[key] = _found(ctx, fold)
    found: NDArray[np.bool_] = ctx.scratch[key]
    return found


def _found(ctx: RungContext, fold: Fold | None) -> NDArray[np.bool_]:
    asked, count = ctx.config.joint.foreign, len(ctx.pool)
    inputs = FrozenInputs(ctx, fold)
    p = conformal_p_values(*nearness(inputs))
    if asked == "keep":
        found = np.zeros(count, bool)
    elif asked == "drop":
        found = p <= _UNLIKELY
    else:
        found = benjamini_hochberg(p, _FALSE_SHARE)
        if found.mean() > _MOST:
            found = np.zeros(count, bool)
    if fold is None:
        rule = {
            "keep": "Asked for: all unlabeled images are trusted.",
            "drop": f"Asked for: images are set aside that at most {_UNLIKELY:.0%} of the labeled ones are as far away as.",
            "auto": "Images are set aside that are farther from every label than labels are from each other, and more of "
            "them than chance would have (conformal p-values, Benjamini-Hochberg); none where these would be more than a "
            "third, for then the labels are no random draw.",
        }[asked]
        figures = {"set_aside": int(found.sum()), "of": count, "unlikely": int((p <= _UNLIKELY).sum())}
        pinned = asked != "auto"
        value = "drop" if found.any() else "keep"
        ctx.decisions.add(
            Decision("foreign", value, "user" if pinned else "rule", rule, dict(figures), pinned)
        )
    return found


def nearness(inputs: FrozenInputs, count: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the similarity to the ``count`` nearest (other) labeled images of labels and pool, the mean over them and spaces."""
    own, pool = [], []
    for space in inputs.spaces:
        labeled, others = inputs.apart(space)
        among = labeled @ labeled.T
        np.fill_diagonal(among, -np.inf)
        own.append(_highest(among, min(count, max(len(labeled) - 1, 1))))
        # In parts: all similarities of a large pool at once would fill the memory.
        parts = np.array_split(others, max(1, len(others) // _ROWS))
        pool.append(
            np.concatenate(
                [_highest(part @ labeled.T, min(count, max(len(labeled) - 1, 1))) for part in parts]
            )
        )
    return np.mean(own, axis=0, dtype=np.float64), np.mean(pool, axis=0, dtype=np.float64)


def _highest(similarity: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return the mean of the ``count`` highest values of each row."""
    if count == 1:
        return np.asarray(similarity.max(1))
    return np.asarray(np.partition(similarity, -count, axis=1)[:, -count:].mean(1))


def conformal_p_values(
    labeled: NDArray[np.float64], pool: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return for each pool image the share of labeled images (and itself) that are no nearer, (pool,).

    Args:
        labeled: How near each labeled image is to the others, (n,).
        pool: How near each pool image is to the labeled ones, (pool,).
        weights: What each labeled image counts where classes have other shares in the pool, (n,); a pool image counts as
            much as the heaviest of them (weighted conformal prediction: Tibshirani et al., NeurIPS 2019, arXiv 1904.06019).
    """
    count = np.ones(len(labeled)) if weights is None else weights
    order = np.argsort(labeled)
    below = np.concatenate([[0.0], np.cumsum(count[order])])
    own = float(count.max())
    place = np.searchsorted(labeled[order], pool, side="right")
    return np.asarray((own + below[place]) / (own + below[-1]), np.float64)


def benjamini_hochberg(p: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Return which hypotheses are rejected at a false discovery rate (Benjamini and Hochberg, JRSS B 1995)."""
    if not len(p):
        return np.zeros(0, bool)
    ranked = np.sort(p)
    fits = np.flatnonzero(ranked <= share * np.arange(1, len(p) + 1) / len(p))
    return np.asarray(p <= (ranked[fits[-1]] if len(fits) else -1.0), bool)
