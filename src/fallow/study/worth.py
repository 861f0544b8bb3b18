"""How many labels were the unlabeled images worth? Read off the learning curve of the probe."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FitScore = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""``fit_score(train, held_out)``: correctness (k,) on ``held_out`` of a probe trained on ``train`` (positions)."""
_DRAWS = 6
_LARGEST_FACTOR = 20.0
"""Beyond twenty times the labels the curve is fiction: "more than" is said instead."""


def learning_curve(
    y: NDArray[np.int64], fit_score: FitScore, seed: int, draws: int = _DRAWS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the probe's error at several numbers of labels a class.

    Each draw holds out a fifth of every class (one label at least) and trains on nested subsets of the rest.

    Args:
        y: Classes of all labeled images, (n,).
        fit_score: Trains and scores a probe.
        seed: Seed of the draws.
        draws: Number of draws.

    Returns:
        Mean number of training labels (points,), mean error (points,), in order of size.
    """
    classes = [np.flatnonzero(y == c) for c in range(int(y.max()) + 1)]
    smallest = min(len(c) for c in classes)
    out = max(1, smallest // 5)
    most = smallest - out
    steps = sorted({max(1, round(most * f)) for f in (0.25, 0.5, 0.75, 1.0)}) if most >= 1 else []
    rng = np.random.default_rng(seed)
    sizes: dict[int, list[float]] = {s: [] for s in steps}
    errors: dict[int, list[float]] = {s: [] for s in steps}
    for _ in range(draws if steps else 0):
        shuffled = [rng.permutation(c) for c in classes]
        held_out = np.concatenate([c[: max(out, len(c) // 5)] for c in shuffled])
        for s in steps:
            # Classes keep their proportions: each gives the same share of what it has left.
            train = np.concatenate(
                [
                    r[: max(1, round(len(r) * s / most))]
                    for c in shuffled
                    for r in [c[max(out, len(c) // 5) :]]
                ]
            )
            sizes[s].append(len(train))
            errors[s].append(1 - float(fit_score(train, held_out).mean()))
    return np.array([np.mean(sizes[s]) for s in steps]), np.array([np.mean(errors[s]) for s in steps])


def worth_labels(
    labels: int,
    error_labels_only: float,
    error_chosen: float,
    sizes: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> tuple[int | None, str]:
    """Return how many more labels the probe would need to reach the chosen model's error.

    The error is taken to fall as a power of the number of labels; the exponent is fitted to the curve and the level is
    set by the measured error with all labels.

    Args:
        labels: Labels at hand.
        error_labels_only: Held-out error of labels only.
        error_chosen: Held-out error of the chosen model.
        sizes: Training sizes of the learning curve, (points,).
        errors: Errors there.

    Returns:
        The number of labels (None where it cannot be told) and a remark.
    """
    if error_chosen >= error_labels_only:
        return 0, "the chosen model is not better than labels only on the held-out labels"
    usable = errors > 0
    if usable.sum() < 2 or error_chosen <= 0:
        return None, "too few labels to draw a learning curve"
    slope = -float(np.polyfit(np.log(sizes[usable]), np.log(errors[usable]), 1)[0])
    if slope <= 0.02:
        return None, "more labels did not lower the error of the probe measurably"
    factor = (error_labels_only / error_chosen) ** (1 / slope)
    if factor > _LARGEST_FACTOR:
        return round(
            labels * (_LARGEST_FACTOR - 1)
        ), "or more: beyond twenty times the labels the curve is not to be trusted"
    return round(labels * (factor - 1)), f"the probe's error falls as labels to the power of -{slope:.2f}"
