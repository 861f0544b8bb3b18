"""Heads that are fitted on labels: linear, with a hidden layer, a support vector machine, and linear on very few labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fallow.models import DEFAULT_STRENGTH, fit_logistic, unit_length
from fallow.study.probing.deal import DRAWS, Deal, Positions
from fallow.study.probing.scores import Scores, correctness
from fallow.study.probing.vectors import Array, standardized
from fallow.study.strength import SEARCH_FROM, STRENGTHS, inner_parts, strength_losses
from fallow.types import Progress

_STRENGTHS = (*STRENGTHS, 1000.0, 3000.0)
COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Costs of the support vector machine that are tried, those of VISSL among them."""
SHOTS = (1, 2, 4, 8, 16)
HIDDEN = 512
_EPOCHS, _DECAY = 60, 1e-3
_ONE_PART = 1000
"""Labels from which a third of them, held out once, says enough of a strength or a cost."""

Fitted = tuple[NDArray[np.int64], float]
"""The classes named, and the strength or cost that was chosen."""
Fit = Callable[[Positions, Positions, int], Fitted]
"""``fit(learned from, held out, number)`` names the classes of what is held out."""


def linear(features: Array, deal: Deal, progress: Progress) -> list[Scores]:
    """Judge by multinomial logistic regression; its strength is chosen on folds inside what it learns from."""

    def fit(rest: Positions, held: Positions, number: int) -> Fitted:
        x, y = standardized(features, features[rest]), deal.y[rest]
        parts = [] if len(y) < SEARCH_FROM else _parts(deal, rest, number)
        losses = (
            strength_losses(x[rest], y, deal.classes, parts, _STRENGTHS) if parts else {DEFAULT_STRENGTH: 0.0}
        )
        best = min(losses, key=lambda strength: losses[strength])
        head = fit_logistic(x[rest], y, n_classes=deal.classes, strength=best)
        return head.logits(x[held]).argmax(1), best

    return [_judged("linear", "linear probe", "strength", fit, deal, progress)]


def svm(features: Array, deal: Deal, progress: Progress) -> list[Scores]:
    """Judge by a linear support vector machine, one class against the rest; its cost is chosen on folds inside."""
    z = unit_length(features)

    def fit(rest: Positions, held: Positions, number: int) -> Fitted:
        y, right = deal.y[rest], dict.fromkeys(COSTS, 0)
        for part in _parts(deal, rest, number):
            others = np.setdiff1d(np.arange(len(rest)), part)
            for cost in COSTS:
                machine = _machine(cost, number, z[rest[others]], y[others])
                right[cost] += int((machine.predict(z[rest[part]]) == y[part]).sum())
        best = max(COSTS, key=lambda cost: right[cost]) if any(right.values()) else 1.0
        return _machine(best, number, z[rest], y).predict(z[held]), best

    return [_judged("svm", "support vector machine", "cost", fit, deal, progress)]


def mlp(features: Array, deal: Deal, progress: Progress) -> list[Scores]:
    """Judge by a network with one hidden layer on the features."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    def fit(rest: Positions, held: Positions, number: int) -> Fitted:
        x = standardized(features, features[rest]) * np.sqrt(np.float32(features.shape[1]))
        seed = int(np.random.default_rng([deal.seed, 14, number]).integers(2**31))
        head = MLPClassifier((HIDDEN,), alpha=_DECAY, max_iter=_EPOCHS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are the limit that was meant
            return head.fit(x[rest], deal.y[rest]).predict(x[held]), float(HIDDEN)

    return [
        _judged("mlp", "hidden layer and linear", "width", fit, deal, progress, draws=DRAWS),
    ]


def low_shot(features: Array, deal: Deal, progress: Progress) -> list[Scores]:
    """Judge by a linear head on 1, 2, 4, 8 and 16 labels a class, drawn five times; larger draws hold the smaller ones.

    Without a test split all that was in no draw of its turn is judged, and nothing of the group of an image that was.
    """
    shots = allowed_shots(deal)
    parts: dict[int, list[tuple[int, Positions, NDArray[np.floating]]]] = {k: [] for k in shots}
    for draw in range(DRAWS):
        drawn = draw_shots(deal, max(shots, default=0), draw)
        held = _outside(deal, drawn)
        if not len(held):  # every image belongs to a group of the draw
            continue
        for at, k in enumerate(shots):
            progress("few labels", draw * len(shots) + at, DRAWS * len(shots))
            rest = drawn[:, :k].reshape(-1)
            x = standardized(features, features[rest])
            head = fit_logistic(x[rest], deal.y[rest], n_classes=deal.classes)
            named = head.logits(x[held]).argmax(1)
            parts[k].append((draw, held, (named == deal.y[held]).astype(np.float64)))
    return [
        correctness(
            f"low-shot@{k}", f"{k} label{'s' if k > 1 else ''} a class", made, len(deal.y), k * deal.classes
        )
        for k, made in parts.items()
        if made
    ]


def allowed_shots(deal: Deal) -> list[int]:
    """Return how many labels a class can be drawn: one of each class at least is left to judge."""
    counts = np.bincount(deal.y[deal.learned], minlength=deal.classes)
    most = int(counts.min()) - (0 if deal.has_test else 1)
    return [k for k in SHOTS if k <= most]


def draw_shots(deal: Deal, count: int, draw: int) -> Positions:
    """Return the positions of a draw, (classes, count): the first k columns are the draw of k labels a class."""
    rng = np.random.default_rng([deal.seed, 15, draw])
    y = deal.y[deal.learned]
    return np.stack([rng.permutation(deal.learned[y == c])[:count] for c in range(deal.classes)])


def _outside(deal: Deal, drawn: Positions) -> Positions:
    taken = set(deal.groups_of(drawn.reshape(-1)))
    return np.array([i for i in deal.judged if deal.groups[i] not in taken], np.int64)


def _judged(
    name: str, title: str, of: str, fit: Fit, deal: Deal, progress: Progress, draws: int = 1
) -> Scores:
    """Fit on every part, several times where the fit itself is a matter of chance and the parts are not."""
    splits = list(deal.splits())
    if deal.has_test:
        splits = [(draw, rest, held) for draw in range(draws) for _, rest, held in splits]
    parts: list[tuple[int, Positions, NDArray[np.floating]]] = []
    chosen: list[float] = []
    for done, (number, rest, held) in enumerate(splits):
        progress(title, done, len(splits))
        found, value = fit(rest, held, done)
        chosen.append(value)
        parts.append((number, held, (found == deal.y[held]).astype(np.float64)))
    told = " to ".join(f"{value:g}" for value in sorted({min(chosen), max(chosen)}))
    fewest = min(len(rest) for _, rest, _ in splits)
    return correctness(name, title, parts, len(deal.y), fewest, f"{of} {told}")


def _parts(deal: Deal, rest: Positions, number: int) -> list[Positions]:
    found = inner_parts(deal.y[rest], deal.groups_of(rest), deal.seed * 1009 + number)
    return found[:1] if len(rest) > _ONE_PART else found


def _machine(cost: float, number: int, x: Array, y: NDArray[np.int64]) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LinearSVC(C=cost, max_iter=2000, random_state=number).fit(x, y)
