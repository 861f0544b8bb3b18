"""What a model said of labels that it had not seen: the only thing that thresholds may be chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fallow.models import fit_temperature
from fallow.study.calibrate import PRIOR_LABELS
from fallow.study.choose import mix_weights
from fallow.study.evidence import tempered
from fallow.study.judge import skewed

_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Answers on labeled images whose labels the answering model had not learned from.

    Attributes:
        where: Position of each answer's image among the labeled ones, (rows,); an image comes up once a repeat.
        probs: float64 (rows, classes).
        y: Classes of all labeled images, (labels,).
        learned: Share of the labels that the answering models had learned from, compared with the model that labels: 0.8
            where a fifth was held out, 1 where it is the very same model.
        optimism: How many times more common errors are than these answers say, because they were looked at to choose who answers;
            1 where nobody chose.
        looks: How many certificates are asked of these labels at most, all of which must hold together.
        calibrated: Whether the model was made to be as sure as it is right; of one that comes from elsewhere nothing is known.
    """

    where: NDArray[np.int64]
    probs: NDArray[np.float64]
    y: NDArray[np.int64]
    learned: float = 1.0
    optimism: float = 1.0
    looks: int = 1
    calibrated: bool = True

    @cached_property
    def guess(self) -> NDArray[np.int64]:
        """The class named in each answer, (rows,)."""
        return self.probs.argmax(1)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether it is the right one, (rows,)."""
        return np.asarray(self.guess == self.y[self.where])

    @cached_property
    def share(self) -> NDArray[np.float64]:
        """What each answer counts, (rows,): all answers on one image count 1 together."""
        times = np.bincount(self.where, minlength=len(self.y))
        return np.asarray(1.0 / times[self.where], np.float64)

    @property
    def labels(self) -> int:
        """How many labeled images were asked about."""
        return len(np.unique(self.where))

    def tempered(self, temperature: float) -> HeldOut:
        """Return the same answers with their log-probabilities divided by ``temperature``."""
        return replace(self, probs=tempered(self.probs, temperature))

    def temperature(self) -> float:
        """Return the temperature that minimizes the log-loss, pulled to 1 where labels are few."""
        if not len(self.where):
            return 1.0
        logits = np.log(np.maximum(self.probs, _TINY))
        # Repeats ask the same labels again: the pull grows with them, as if each label were asked once.
        rows = PRIOR_LABELS * len(self.where) / self.labels
        return round(fit_temperature(logits, self.y[self.where], prior_rows=rows), 4)

    def averaged(self) -> HeldOut:
        """Return one answer an image: the mean over repeats."""
        total = np.zeros((len(self.y), self.probs.shape[1]))
        np.add.at(total, self.where, self.probs * self.share[:, None])
        where = np.unique(self.where)
        return replace(self, where=where, probs=total[where])


def image_weights(
    held_out: HeldOut, probs: NDArray[np.floating], own: NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """Return what each labeled image counts, (labels,), so that the held-out classes have the pool's estimated shares; None where
    all count alike, as long as these differ by no more than three to one.

    Args:
        held_out: Who was asked.
        probs: What is said of the pool, (pool, classes).
        own: Pool images that are of some class, (pool,).
    """
    if not held_out.labels:
        return None
    asked = held_out.y[np.unique(held_out.where)]
    there = np.bincount(asked, minlength=probs.shape[1]) > 0
    mix = probs[own].mean(0, dtype=np.float64) * there
    if there.sum() < 2 or not skewed(mix[there] / mix.sum(), np.searchsorted(np.flatnonzero(there), asked)):
        return None
    weights = np.zeros(len(held_out.y))
    weights[np.unique(held_out.where)] = mix_weights(asked, mix / mix.sum())
    return weights


def nothing(y: NDArray[np.int64], classes: int, calibrated: bool = True) -> HeldOut:
    """Return the evidence of a model that no label is held out for."""
    return HeldOut(np.zeros(0, np.int64), np.zeros((0, classes)), y, calibrated=calibrated)


def together(several: Sequence[HeldOut]) -> HeldOut:
    """Return the evidence of an ensemble: mean answers on the images that all of its models can be asked about."""
    if len(several) == 1:
        return several[0]
    means = [one.averaged() for one in several]
    shared = means[0].where
    for one in means[1:]:
        shared = np.intersect1d(shared, one.where)
    probs = np.mean([one.probs[np.searchsorted(one.where, shared)] for one in means], axis=0)
    return HeldOut(
        shared,
        np.asarray(probs, np.float64),
        means[0].y,
        min(one.learned for one in means),
        calibrated=all(one.calibrated for one in means),
    )
