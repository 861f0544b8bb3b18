"""Whether features fall into the classes by themselves: k-means against the labels, and how the classes lie."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fallow.models import unit_length
from fallow.study.probing.deal import DRAWS, Deal
from fallow.study.probing.scores import Scores
from fallow.study.probing.vectors import Array
from fallow.types import Progress

_BLOCKS = 20
"""Parts that are left out one after the other for the interval."""
_SILHOUETTED = 2000
"""Images whose silhouette is measured: it looks at every pair of them."""
_STARTS = 3

Agreement = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


def purity(y: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Return how often an image is of the most frequent class of its cluster."""
    counts = np.zeros((int(found.max()) + 1, int(y.max()) + 1))
    np.add.at(counts, (found, y), 1)
    return float(counts.max(1).sum() / len(y))


def clusters(features: Array, deal: Deal, progress: Progress) -> list[Scores]:
    """Judge by clusters of the judged images, as many as there are classes, that no label has a say in."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    agreements: tuple[tuple[str, str, Agreement], ...] = (
        ("NMI", "clusters, mutual information", normalized_mutual_info_score),
        ("ARI", "clusters, adjusted Rand index", adjusted_rand_score),
        ("purity", "clusters, purity", purity),
    )
    z, y = unit_length(features[deal.judged]), deal.y[deal.judged]
    found = [_kmeans(z, deal, draw, progress) for draw in range(DRAWS)]
    block = np.random.default_rng([deal.seed, 11]).permutation(len(y)) % min(_BLOCKS, len(y))
    made = []
    for name, title, agree in agreements:
        draws = np.array([agree(y, of) for of in found])
        without = [
            np.mean([agree(y[block != b], of[block != b]) for of in found]) for b in range(block.max() + 1)
        ]
        share = name == "purity"
        made.append(Scores(name, title, "whole", np.array(without), draws, len(y), 0, in_percent=share))
    return [*made, silhouette(z, deal)]


def _kmeans(z: Array, deal: Deal, draw: int, progress: Progress) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    progress("clusters", draw, DRAWS)
    count = min(len(np.unique(deal.y[deal.judged])), len(z))
    seed = int(np.random.default_rng([deal.seed, 12, draw]).integers(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different images than clusters
        labels = KMeans(count, n_init=_STARTS, random_state=seed).fit(z).labels_
    return np.asarray(labels, np.int64)


def silhouette(z: Array, deal: Deal) -> Scores:
    """Return the silhouette of the classes: near 1 they lie apart, near 0 they touch (Rousseeuw 1987).

    Args:
        z: Features of the judged images, of unit length; their distance is 1 - cosine.
        deal: Who is judged.
    """
    from sklearn.metrics import silhouette_samples

    each, y = np.full(len(deal.y), np.nan), deal.y[deal.judged]
    chosen = np.sort(np.random.default_rng([deal.seed, 13]).permutation(len(y))[:_SILHOUETTED])
    if 2 <= len(np.unique(y[chosen])) < len(chosen):
        each[deal.judged[chosen]] = silhouette_samples(z[chosen], y[chosen], metric="cosine")
    known = each[np.isfinite(each)]
    draws = np.array([known.mean()]) if len(known) else np.zeros(0)
    title = "silhouette of the classes"
    return Scores("silhouette", title, "mean", each, draws, len(known), 0, in_percent=False)
