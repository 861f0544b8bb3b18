"""Is a further round of labeling better? A guard against drift, which looks at held-out labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fallow.config import LabelConfig
from fallow.record import Interval
from fallow.record.labels import RoundLabels
from fallow.study.choose import (
    Paired,
    Prior,
    accuracy_interval,
    both_ways,
    compare,
    corrected_for_choice,
    keep,
    paired,
)
from fallow.study.labeling.answers import Answers
from fallow.study.labeling.apart import Rows
from fallow.study.labeling.evidence import HeldOut, image_weights
from fallow.study.labeling.lessons import Lesson, accepted
from fallow.study.labeling.reliability import Reliability
from fallow.types import RungName

Floats = NDArray[np.float64]
_PRIOR = Prior(0.0, 0.05)
"""A further round is believed to gain nothing until held-out labels say so."""


@dataclass(frozen=True, eq=False)
class Round:
    """One round of labeling.

    Attributes:
        name: As a rung of the ladder is named.
        answers: What it says.
        compared: What it said of held-out labels in the folds in which rounds are compared, one answer a label.
        may: Pool images that may be accepted at all, (pool,).
        config: What was asked for.
    """

    name: RungName
    answers: Answers
    compared: HeldOut
    may: Rows
    config: LabelConfig

    def accepted(self, optimism: float = 1.0) -> tuple[Lesson, Interval | None]:
        """Return what it accepts and which share of that is right, errors taken to be ``optimism`` times as common as was seen."""
        held_out = replace(self.answers.held_out, optimism=optimism)
        reliability = Reliability.fit(held_out)
        lesson = accepted(self.config, reliability, self.answers.probs, self.may)
        return lesson, reliability.precision(self.answers.probs[lesson.rows]) if len(lesson) else None

    @property
    def right(self) -> Floats:
        """Whether it names each held-out label rightly, by position of the image, (asked,)."""
        return self.compared.right[np.argsort(self.compared.where)].astype(np.float64)

    def surely_right(self, share: float) -> Floats:
        """Whether it names each held-out label rightly and is among the ``share`` that it is surest of, likewise."""
        sure = Reliability.fit(self.compared).probability(self.compared.probs)
        top = np.zeros(len(sure))
        top[np.argsort(-sure, kind="stable")[: round(share * len(sure))]] = 1.0
        return (top * self.compared.right)[np.argsort(self.compared.where)]


def better(new: Round, old: Round) -> tuple[bool, str]:
    """Say whether a round replaces the one before, and why.

    Neither the share of held-out labels that are named rightly nor that of the surest of them, as many as the round before
    accepts, may fall: paired on the same labels, by the labels as they are and by the pool's mix where that differs. And more
    must be accepted at the precision asked for, or more be right at the coverage asked for: a round that changes nothing is
    dropped.
    """
    (before, was), (after, now) = old.accepted(), new.accepted()
    weights = image_weights(new.compared, new.answers.probs, new.may)
    asked = None if weights is None else weights[np.sort(new.compared.where)]
    share = len(before) / len(new.may)
    all_right = [paired(new.right, old.right, w) for w in both_ways(asked)]
    surest = [paired(new.surely_right(share), old.surely_right(share), w) for w in both_ways(asked)]
    gain = f"{_points(min(all_right, key=lambda one: one.observed))} of all held-out labels"
    gain += f" and {_points(min(surest, key=lambda one: one.observed))} among the surest named rightly"
    if not all(keep(compare(one, _PRIOR), cheap=True) for one in (*all_right, *surest)):
        return False, f"fewer held-out labels are named rightly: {gain}"
    if new.config.target is not None:
        more = len(after) > len(before)
        told = "more is accepted" if more else "no more is accepted"
    else:
        more = now is not None and was is not None and now.value > was.value
        told = "more of what is accepted is right" if more else "no more of what is accepted is right"
    return more, f"{told}; {gain}"


def optimism(rounds: Sequence[Round], kept: Round) -> float:
    """Return how many times more common errors are than held-out labels say of the round that was chosen by them.

    The bootstrap of the choice itself gives by how much the best of these rounds looks better than it is
    (`corrected_for_choice`); the errors that were seen are taken to be the commoner by that.
    """
    seen = 1.0 - accuracy_interval(kept.right).value
    corrected = corrected_for_choice(
        {one.name: one.right for one in rounds}, kept.name, seed=kept.config.seed
    )
    flattered = max(0.0, 1.0 - seen - corrected.value)
    return 1.0 + flattered / max(seen, 1.0 / (len(kept.right) + 2))


def line(number: int, one: Round, kept: bool, why: str, flattered: float) -> RoundLabels:
    """Return what is told of a round."""
    lesson, precision = one.accepted(flattered)
    return RoundLabels(number, len(lesson), precision, accuracy_interval(one.right), kept, why)


def _points(one: Paired) -> str:
    value = round(100 * one.observed, 1)
    return f"{'−' if value < 0 else '+'}{abs(value):.1f} points"
