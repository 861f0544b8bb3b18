"""The propagate rung's recipe: spread labels over the neighbor graph, refit a linear head, repeat.

Graph and head correct each other. The graph knows which images lie together and is right where labels are
very few; the head generalizes along directions and is right where the graph has wrong edges. Each round the
head's probabilities are smoothed over the graph, multiplied with what the labels spread, and a new head is
fitted on the surest of the result (self-training; compare Iscen et al., CVPR 2019, and Lazarou et al., ICCV
2021). In the end the class shares, which drift in such rounds, are drawn back to those of the labels-only head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fallow.errors import DataError
from fallow.methods.mix import anchor_shares, estimate_mix
from fallow.methods.neighbors import Neighbors, find_neighbors
from fallow.methods.spread import affinity, clamp, normalize_rows, spread, spread_labels
from fallow.models.feature_map import FeatureMap, fit_feature_map
from fallow.models.linear import DEFAULT_STRENGTH, LinearHead, fit_logistic, one_hot, softmax

Array = NDArray[np.float32]

MARGIN = 12
"""Neighbors listed beyond what the graph needs: a fold drops its held-out images from the lists."""
_POOL_ENOUGH = 300
_BLOCK = 8192
_FLOOR = 1e-3  # a class that the graph rules out may still be argued for by the head
_STEPS, _WARM_STEPS = 60, 30


@dataclass(frozen=True)
class PropagateOptions:
    """One set of defaults for all data sets; chosen on development splits of four of them.

    Attributes:
        neighbors: Neighbors of each image in the graph.
        alpha: How far labels travel over the graph.
        sharpness: How much nearer neighbors count more, see `affinity`.
        whiten: Partial whitening of the features the graph is built on.
        components: Principal components kept, for graph and head.
        rounds: Times that head and graph correct each other.
        keep: Weight of the first spreading (a log-probability) in later rounds.
        smooth: How far the head's probabilities travel over the graph.
        confidence: Exponent of the certainty that weights a pool image in the fit.
        strength: Inverse L2 penalty of the refitted head.
        probe_strength: The same for the labels-only head.
        probe_labels: Labels per class (beyond the first) at which the labels-only head weighs as much as the
            graph.
        anchor_labels: Labels per class at which the head's class shares are drawn half way back to those of the
            labels-only head, see `anchor_shares`.
    """

    neighbors: int = 10
    alpha: float = 0.98
    sharpness: float = 4.0
    whiten: float = 0.35
    components: int = 256
    rounds: int = 5
    keep: float = 0.3
    smooth: float = 0.75
    confidence: float = 2.0
    strength: float = 20.0
    probe_strength: float = DEFAULT_STRENGTH
    probe_labels: float = 5.0
    anchor_labels: float = 2.5


@dataclass(frozen=True, eq=False)
class Propagation:
    """What came out.

    Attributes:
        probs: float32 (n_pool, c), soft labels of the pool, in the order of its rows.
        weights: float32 (n_pool,), how much each counted in the fit, 0 to 1.
        mix: float64 (c,), estimated class proportions of the pool.
        head: Linear head on the inputs' features: the classifier to ship.
        diagnostics: Plain figures for logs and reports.
    """

    probs: Array
    weights: Array
    mix: NDArray[np.float64]
    head: LinearHead
    diagnostics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PropagationInputs:
    """Features and neighbor lists of labeled images and pool; computed once, filtered for each fold.

    Attributes:
        feature_map: From the backbone's features to the head's.
        features: float32 (n, k) mapped.
        neighbors: One list with a margin per embedding.
        pool_only: True when the maps saw pool images only, so that folds may share these inputs. When False
            (the pool is too small to learn a normalization from), prepare each fold anew without its held-out
            rows.
    """

    feature_map: FeatureMap
    features: Array
    neighbors: tuple[Neighbors, ...]
    pool_only: bool

    def keep(self, rows: NDArray[np.bool_], count: int) -> PropagationInputs:
        """Return the inputs without the rows that are False, with ``count`` neighbors each."""
        lists = tuple(one.keep(rows, count) for one in self.neighbors)
        return PropagationInputs(self.feature_map, self.features[rows], lists, self.pool_only)


@dataclass(frozen=True, eq=False)
class ExtraRows:
    """Labeled images of another origin: heads learn from them, the graph does not know them.

    Attributes:
        features: float32 (e, k), mapped as the inputs' features are.
        labels: int (e,), their classes.
        weight: How much each counts in a fit; a labeled image of the data counts 1.
    """

    features: Array
    labels: NDArray[np.integer]
    weight: float


Embedding = NDArray[np.floating] | tuple[NDArray[np.floating], ...]
"""(n, d) features of labeled images and pool; or the parts that, one after the other, make these rows."""


def prepare_inputs(
    features: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    pool: NDArray[np.bool_],
    options: PropagateOptions | None = None,
    *,
    margin: int = MARGIN,
    seed: int = 0,
) -> PropagationInputs:
    """Normalize the backbone's features and list neighbors.

    Args:
        features: (n, d) of labeled images and pool (views averaged), or several embeddings of the same
            images: the first carries the head, all vote in the graph.
        pool: bool (n,), True for unlabeled rows.
        options: See there.
        margin: Neighbors listed beyond what the graph needs, for folds that drop rows.
        seed: Of the approximate search above 20,000 images.
    """
    options = options or PropagateOptions()
    embeddings = [features] if isinstance(features, np.ndarray) else list(features)
    head_map, mapped = map_features(embeddings[0], pool, options)
    lists = tuple(list_neighbors(one, pool, options, margin=margin, seed=seed) for one in embeddings)
    return PropagationInputs(head_map, mapped, lists, knows_enough(pool))


def knows_enough(pool: NDArray[np.bool_]) -> bool:
    """Say whether the pool is large enough for maps to be learned on it alone, so that folds may share them."""
    # A small pool alone would leave out directions that the labels need; 2,000 images always know enough.
    return bool(pool.sum() >= min(max(_POOL_ENOUGH, (~pool).sum()), 2000))


def map_features(
    embedding: Embedding, pool: NDArray[np.bool_], options: PropagateOptions
) -> tuple[FeatureMap, Array]:
    """Learn a head's feature map and return it with the mapped features, float32 (n, k)."""
    parts = _parts(embedding)
    found = fit_feature_map(_learned_on(parts, pool), components=options.components)
    return found, _mapped(found, parts)


def list_neighbors(
    embedding: Embedding,
    pool: NDArray[np.bool_],
    options: PropagateOptions,
    *,
    margin: int = MARGIN,
    seed: int = 0,
) -> Neighbors:
    """List the neighbors of all rows in one embedding; by far the dearest part of `prepare_inputs`."""
    parts = _parts(embedding)
    found = fit_feature_map(_learned_on(parts, pool), components=options.components, whiten=options.whiten)
    return find_neighbors(_mapped(found, parts), options.neighbors + margin, seed=seed)


def _parts(embedding: Embedding) -> tuple[NDArray[np.floating], ...]:
    return (embedding,) if isinstance(embedding, np.ndarray) else embedding


def _learned_on(parts: tuple[NDArray[np.floating], ...], pool: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return the rows that maps are learned on; a part that is needed whole, and alone, is not copied."""
    rows = pool if knows_enough(pool) else np.ones(len(pool), dtype=bool)
    masks = np.split(rows, np.cumsum([len(part) for part in parts])[:-1])
    needed = [
        part if mask.all() else part[mask] for part, mask in zip(parts, masks, strict=True) if mask.any()
    ]
    return needed[0] if len(needed) == 1 else np.concatenate(needed or parts)


def _mapped(feature_map: FeatureMap, parts: tuple[NDArray[np.floating], ...]) -> Array:
    """Map all rows block by block: 100,000 features of 1,280 numbers are half a gigabyte a copy."""
    starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    blocks = []
    for start in range(0, max(starts[-1], 1), _BLOCK):
        rows = [
            part[max(start - first, 0) : max(start + _BLOCK - first, 0)]
            for part, first in zip(parts, starts[:-1], strict=True)
        ]
        blocks.append(feature_map.transform(rows[0] if len(rows) == 1 else np.concatenate(rows)))
    return np.concatenate(blocks)


def propagate(
    inputs: PropagationInputs,
    labels: NDArray[np.integer],
    n_classes: int,
    options: PropagateOptions | None = None,
    extra: ExtraRows | None = None,
) -> Propagation:
    """Learn from the labels and the pool together. Deterministic.

    Args:
        inputs: From ``prepare_inputs``, without any held-out or test image.
        labels: int (n,), -1 for pool rows.
        n_classes: Number of classes (2 or more).
        options: See there.
        extra: Labeled images of another origin. They count among the labels that make the labels-only head and, in the end,
            the head's own class shares trusted, and in every refit.

    Raises:
        DataError: A class has no labeled row, or labels and features disagree in number.
    """
    options = options or PropagateOptions()
    _check(inputs, labels, n_classes)
    known, pool = labels >= 0, labels < 0
    features = inputs.features
    probe = fit_with_extra(features[known], labels[known], n_classes, options.probe_strength, extra)
    graph = affinity([_first(one, options.neighbors) for one in inputs.neighbors], options.sharpness)
    equal = np.full(n_classes, 1.0 / n_classes)
    spread_probs = spread_labels(graph, labels, n_classes, options.alpha, equal)
    counts = np.bincount(labels[known], minlength=n_classes)
    told = counts.astype(np.float64)
    if extra is not None:
        told += extra.weight * np.bincount(extra.labels, minlength=n_classes)
    trust = float(np.clip((told.mean() - 1) / options.probe_labels, 0.0, 1.0))
    seeds = np.log(spread_probs + _FLOOR) + trust * np.log(probe.probs(features) + 1e-9)
    probs = clamp(softmax(seeds), labels)
    head, weights = _refit(features, probs, known, options, None, extra)
    for _ in range(options.rounds):
        believed = clamp(head.probs(features), labels)
        smoothed = normalize_rows(spread(graph, believed, options.smooth), believed.mean(axis=0))
        probs = clamp(softmax(options.keep * seeds + np.log(smoothed + _FLOOR)), labels)
        head, weights = _refit(features, probs, known, options, head, extra)
    head, drift = anchor_shares(head, probe, features[pool], float(np.median(told)), options.anchor_labels)
    figures = {
        "probe_trust": trust,
        "mean_certainty": _mean(weights[pool]),
        "agreement_with_probe": _mean(
            probe.logits(features[pool]).argmax(axis=1) == probs[pool].argmax(axis=1)
        ),
        "agreement_with_spread": _mean(spread_probs[pool].argmax(axis=1) == probs[pool].argmax(axis=1)),
        "share_drift": drift,
    }
    mix = estimate_mix(probs[pool], counts)
    return Propagation(probs[pool], weights[pool], mix, head, figures)


def _refit(
    features: Array,
    probs: Array,
    known: NDArray[np.bool_],
    options: PropagateOptions,
    start: LinearHead | None,
    extra: ExtraRows | None,
) -> tuple[LinearHead, Array]:
    """Fit a head on the likeliest classes, rows weighted by certainty; return head and weights (n,)."""
    weights = certainty(probs) ** np.float32(options.confidence)
    weights[known] = 1.0
    targets = one_hot(probs.argmax(axis=1), probs.shape[1])
    steps = _STEPS if start is None else _WARM_STEPS
    rows = (features, targets, weights) if extra is None else _joined(features, targets, weights, extra)
    head = fit_logistic(
        rows[0], rows[1], sample_weight=rows[2], strength=options.strength, start=start, max_steps=steps
    )
    return head, weights


def fit_with_extra(
    features: Array,
    labels: NDArray[np.integer],
    n_classes: int,
    strength: float,
    extra: ExtraRows | None,
    start: LinearHead | None = None,
) -> LinearHead:
    """Fit a linear head on labels, which count 1 each, and on extra images with their weight.

    Args:
        features: float32 (n, k) of the labeled images.
        labels: int (n,), their classes.
        n_classes: Number of classes.
        strength: Inverse L2 penalty.
        extra: Labeled images of another origin; None fits on the labels alone.
        start: Head to start from; default zero.
    """
    if extra is None:
        return fit_logistic(features, labels, n_classes=n_classes, strength=strength, start=start)
    rows = _joined(features, one_hot(labels, n_classes), np.ones(len(labels), np.float32), extra)
    return fit_logistic(rows[0], rows[1], sample_weight=rows[2], strength=strength, start=start)


def _joined(features: Array, targets: Array, weights: Array, extra: ExtraRows) -> tuple[Array, Array, Array]:
    """Return features, targets (n, c) and weights with the extra rows behind them."""
    theirs = one_hot(extra.labels, targets.shape[1])
    weight = np.full(len(theirs), extra.weight, np.float32)
    return (
        np.concatenate([features, extra.features]),
        np.concatenate([targets, theirs]),
        np.concatenate([weights, weight]),
    )


def _mean(values: NDArray[np.bool_] | Array) -> float:
    return float(values.mean()) if len(values) else 1.0


def certainty(probs: Array) -> Array:
    """Return one minus the normalized entropy of each row, float32 (n,), 0 (even) to 1 (sure)."""
    entropy = -(probs * np.log(probs + 1e-12)).sum(axis=1) / np.log(probs.shape[1])
    return np.asarray(np.clip(1.0 - entropy, 0.0, 1.0), dtype=np.float32)


def _first(neighbors: Neighbors, count: int) -> Neighbors:
    return Neighbors(neighbors.index[:, :count], neighbors.similarity[:, :count])


def _check(inputs: PropagationInputs, labels: NDArray[np.integer], n_classes: int) -> None:
    if len(labels) != len(inputs.features):
        raise DataError(
            f"{len(inputs.features)} feature rows but {len(labels)} labels: they must be as many."
        )
    counts = np.bincount(labels[labels >= 0], minlength=n_classes)
    if len(counts) > n_classes or n_classes < 2:
        raise DataError(f"Labels must lie in 0..{n_classes - 1} with at least two classes.")
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        raise DataError(
            f"Class {missing[0]} has no labeled image: label at least one, or leave the class out."
        )
