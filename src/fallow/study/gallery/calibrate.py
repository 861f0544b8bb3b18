"""How far is too far: the distance up to which the nearest image says what an image is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fallow.study.gallery.nearest import nearest
from fallow.types import JsonObject

TARGETS = (0.8, 0.9, 0.95, 0.99)
USUAL_TARGET = 0.95
_ASKED = 5000
"""Images that ask for their nearest one: more say little more, and each asks all."""
_UNLIKE = 0.99
LEAST = 20
"""Labeled images below which no threshold is given."""


@dataclass(frozen=True)
class Threshold:
    """A distance up to which the nearest image counts as a match.

    Attributes:
        distance: Cosine distance, 0..2.
        precision: Share of the matches whose nearest image is of the same class.
        recall: Share of all images that have a match of the same class.
    """

    distance: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


@dataclass(frozen=True)
class Calibration:
    """What nearest neighbors among the gallery's own images say of distances.

    Attributes:
        asked: Labeled images that asked for their nearest labeled image, each without itself.
        best: The threshold with the largest F1; None with too few labels.
        at: The largest distance at which a precision is reached, by precision; those that no distance reaches are missing.
        usual: Distance within which 99 % of the images have their nearest one, labels or not; None with one image.
    """

    asked: int
    best: Threshold | None
    at: dict[float, Threshold]
    usual: float | None

    @property
    def usually(self) -> Threshold | None:
        """The threshold that counts where nobody asks for another: 95 % of the matches right where that is reached, else the best F1.

        Where most images have a near one of their class the best F1 takes nearly any image for a match.
        """
        return self.at.get(USUAL_TARGET, self.best)

    def to_json(self) -> JsonObject:
        """Return it as JSON."""
        return {
            "asked": self.asked,
            "best": None if self.best is None else asdict(self.best),
            "at": {f"{target:g}": asdict(found) for target, found in self.at.items()},
            "usual": self.usual,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild it."""
        return cls(
            data["asked"],
            None if data["best"] is None else Threshold(**data["best"]),
            {float(target): Threshold(**found) for target, found in data["at"].items()},
            data["usual"],
        )


def calibrate(vectors: NDArray[np.floating], labels: NDArray[np.str_], seed: int) -> Calibration:
    """Return the distances that tell a match from none.

    Args:
        vectors: (n, dim).
        labels: Class of each, (n,); empty where there is none.
        seed: Of the sample that asks.
    """
    usual = _usual(vectors, seed)
    known = np.flatnonzero(labels != "")
    if len(known) < LEAST or len(np.unique(labels[known])) < 2:
        return Calibration(0, None, {}, usual)
    asking = _sample(len(known), seed)
    rows, distance = nearest(vectors[known[asking]], vectors[known], 1, own=asking)
    same = labels[known][rows[:, 0]] == labels[known][asking]
    best, at = thresholds(distance[:, 0].astype(np.float64), same)
    return Calibration(len(asking), best, at, usual)


def thresholds(
    distance: NDArray[np.float64], same: NDArray[np.bool_]
) -> tuple[Threshold, dict[float, Threshold]]:
    """Return the threshold with the largest F1, and the largest ones that reach each of `TARGETS`.

    Args:
        distance: Of each image to its nearest, (n,), n > 0.
        same: Whether they are of one class, (n,).
    """
    order = np.argsort(distance, kind="stable")
    far, right = distance[order], np.cumsum(same[order])
    # A threshold takes all images of one distance or none of them.
    ends = np.flatnonzero(np.append(far[1:] > far[:-1], True))
    made = [
        Threshold(float(far[i]), float(right[i] / (i + 1)), float(right[i] / len(far))) for i in ends.tolist()
    ]
    at = {}
    for target in TARGETS:
        reached = [one for one in made if one.precision >= target]
        if reached:
            at[target] = reached[-1]
    return max(made, key=lambda one: one.f1), at


def _usual(vectors: NDArray[np.floating], seed: int) -> float | None:
    if len(vectors) < 2:
        return None
    asking = _sample(len(vectors), seed)
    _, distance = nearest(vectors[asking], vectors, 1, own=asking)
    return float(np.quantile(distance[:, 0], _UNLIKE))


def _sample(count: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng([seed, 3]).permutation(count)[:_ASKED])
