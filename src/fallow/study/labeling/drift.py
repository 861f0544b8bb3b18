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
_PRIOR = Prior(0.005, 0.02)
"""What a further round is believed to gain, in shares of labels named rightly, until held-out labels say otherwise. On development
draws a second round gained 1.0 point in the mean (standard deviation 1.4; digits 0.1, aerial photos 1.2, clothes 1.7): with less than
that, and with a wide spread for data unlike these, one of 105 held-out labels ends the rounds where it alone is lost, and where ten changed, seven
losses do."""
_AS_MANY = 0.95
"""How many are accepted at a precision is an estimate: a share of this, and more held-out labels right, is no loss."""


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
        """Whether it names each held-out label rightly and is among the ``share`` that it is surest of, likewise.

        By its own word, not by the curve that was fitted on whether it is right.
        """
        sure = self.compared.probs.max(1)
        top = np.zeros(len(sure))
        top[np.argsort(-sure, kind="stable")[: round(share * len(sure))]] = 1.0
        return (top * self.compared.right)[np.argsort(self.compared.where)]


def better(new: Round, old: Round) -> tuple[bool, str]:
    """Say whether a round replaces the one before, and why.

    What held-out labels say of the share that is named rightly, of all and of the surest, as many as the round before accepts, may
    not fall: paired on the same labels, with the gain on other data as the prior (`compare`), by the labels as they are and by the pool's
    mix where that differs. And more must be accepted at the precision asked for (at the coverage asked for: more of it be right), or as
    many and more held-out labels be named rightly: a round that changes nothing is dropped.
    """
    (before, was), (after, now) = old.accepted(), new.accepted()
    weights = image_weights(new.compared, new.answers.probs, new.may)
    asked = both_ways(None if weights is None else weights[np.sort(new.compared.where)])
    share = len(before) / len(new.may)
    all_right = [paired(new.right, old.right, w) for w in asked]
    surest = [paired(new.surely_right(share), old.surely_right(share), w) for w in asked]
    gain = f"{_points(all_right)} of all held-out labels and {_points(surest)} among the surest named rightly"
    if not all(keep(compare(one, _PRIOR), cheap=True) for one in (*all_right, *surest)):
        return False, f"fewer held-out labels are named rightly: {gain}"
    if new.config.target is not None:
        more, told = len(after) > len(before), "is accepted"
        as_many = len(after) >= _AS_MANY * len(before)
    else:
        more = now is not None and was is not None and now.value > was.value
        as_many, told = True, "of what is accepted is right"
    if more:
        return True, f"more {told}; {gain}"
    if as_many and min(one.observed for one in all_right) > 0:
        return True, f"about as many are accepted; {gain}"
    return False, f"no more {told}; {gain}"


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


def _points(found: Sequence[Paired]) -> str:
    value = round(100 * min(one.observed for one in found), 1)
    return f"{'−' if value < 0 else '+'}{abs(value):.1f} points"
