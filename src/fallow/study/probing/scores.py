"""What a protocol measured, and what may be said of it: a value, its spread over draws and its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from fallow.record import Interval
from fallow.study.choose import Z95, accuracy_interval, gain_interval

Array = NDArray[np.float64]
Kind = Literal["share", "mean", "whole"]
"""``share``: how often something is so, image by image. ``mean``: the mean of something measured of each image. ``whole``: a
figure of all images together."""


@dataclass(frozen=True)
class Scores:
    """One figure of one backbone.

    Attributes:
        name: Its key, such as ``knn@20``.
        title: The same in words.
        kind: What it is made of.
        each: Score of each judged image, mean over the draws, (judged,); NaN where it has none. Of a ``whole`` figure: its
            values with one block of images left out after the other.
        draws: Its value in each draw or repeat, (r,).
        judged: Images behind it.
        learned: Images that were learned from, the fewest of all fits; 0 where nothing is learned.
        detail: What was settled on the way.
        in_percent: It is told in percent; else on its own scale.
    """

    name: str
    title: str
    kind: Kind
    each: Array
    draws: Array
    judged: int
    learned: int
    detail: str = ""
    in_percent: bool = True

    @property
    def spread(self) -> float | None:
        """Standard deviation over the draws; None where there is one."""
        return float(self.draws.std(ddof=1)) if len(self.draws) > 1 else None

    def interval(self, seed: int = 0) -> Interval:
        """Return the value with its 95 % interval: what other images would change, and what other draws would."""
        each = self.each[np.isfinite(self.each)]
        if self.kind == "whole":
            found = _jackknife(self.draws, each, self.judged)
        elif self.kind == "share":
            found = _widened(accuracy_interval(each), self.draws)
        else:
            found = _widened(gain_interval(each, np.zeros(len(each)), seed=seed), self.draws)
        floor = 0.0 if self.in_percent else -1.0
        return replace(found, low=max(floor, found.low), high=min(1.0, found.high))

    def less(self, other: Scores, seed: int = 0) -> Interval:
        """Return the paired difference to the same figure of another backbone, on the same images and draws."""
        draws = self.draws - other.draws
        if self.kind == "whole":
            return _jackknife(draws, self.each - other.each, self.judged)
        both = np.isfinite(self.each) & np.isfinite(other.each)
        return _widened(gain_interval(self.each[both], other.each[both], seed=seed), draws)


def correctness(
    name: str,
    title: str,
    parts: list[tuple[int, NDArray[np.int64], NDArray[np.floating]]],
    images: int,
    learned: int,
    detail: str = "",
    kind: Kind = "share",
) -> Scores:
    """Return a figure that is the mean over images of something in 0..1.

    Args:
        name: Its key.
        title: The same in words.
        parts: ``(repeat, positions, score of each)``.
        images: Number of all positions.
        learned: Fewest images that were learned from.
        detail: What was settled on the way.
        kind: ``share`` or ``mean``.
    """
    total, seen = np.zeros(images), np.zeros(images)
    by_draw: dict[int, list[Array]] = {}
    for number, positions, score in parts:
        known = np.isfinite(score)
        total[positions[known]] += score[known]
        seen[positions[known]] += 1
        by_draw.setdefault(number, []).append(np.asarray(score[known], np.float64))
    with np.errstate(invalid="ignore"):
        each = np.where(seen > 0, total / np.maximum(seen, 1), np.nan)
    draws = np.array([np.concatenate(found).mean() for found in by_draw.values()])
    return Scores(name, title, kind, each, draws, int((seen > 0).sum()), learned, detail)


def _widened(found: Interval, draws: Array) -> Interval:
    """Add to the interval over images what the draws vary by: Student's t of their mean."""
    count = len(draws)
    if count < 2:
        return found
    more = float(student.ppf(0.975, count - 1)) * float(draws.std(ddof=1)) / sqrt(count)
    low, high = hypot(found.value - found.low, more), hypot(found.high - found.value, more)
    return Interval(found.value, found.value - low, found.value + high, found.n)


def _jackknife(draws: Array, left_out: Array, images: int) -> Interval:
    """Return the mean of the draws with an interval by the delete-a-block jackknife (Efron 1982, chapter 3)."""
    blocks, value = len(left_out), float(draws.mean())
    spread = sqrt((blocks - 1) / blocks * float(((left_out - left_out.mean()) ** 2).sum())) if blocks else 0.0
    return _widened(Interval(value, value - Z95 * spread, value + Z95 * spread, images), draws)
