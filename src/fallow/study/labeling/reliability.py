"""How likely is a label right? Fitted on held-out answers, and carried over to the pool with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.record import Interval
from fallow.study.choose import Z95
from fallow.study.labeling.evidence import HeldOut

Floats = NDArray[np.float64]

_CLIP = 1e-4
_STEPS = 50
_SD_SHIFT, _SD_SLOPE, _SD_CLASS = 0.7, 0.4, 0.3
"""How far shift, slope and class offsets are believed to lie from what a calibrated model has (0, 1, 0), as standard
deviations: the 5 held-out labels of a class hardly move its own offset, 30 and more outweigh the belief. On development draws
class offsets of 0.3 had a lower log-loss on the pool's true labels than 0.5 and 1."""
_STRANGE_SLOPE = 0.4
"""The slope that a model from elsewhere is believed to have: networks are as a rule too sure of themselves (Guo et al. 2017, arXiv
1706.04599), and few labels cannot show it. In drawn worlds of models 1, 2, 3 and 6 times too sure, with 4 to 50 held-out labels, 99.9,
99.9, 99.6 and 94 % of the intervals held the precision that came out; with a slope of 1, 99, 94, 82 and 37 %. Of 90 real networks, at 10 to
100 held-out labels, 244 of 257 held it and 10 were too high; with a slope of 1, 244 of 262 and 18."""
_LEAST_GAIN, _MOST_GAIN = 0.75, 3.0
"""Error falls with the number of labels as a power between these two, in what the interval allows for; the estimate takes 1.
Figures held out come from models that learned from a part of the labels only, and are worse than the final ones."""
_LUCK = 0.05
"""Few errors are expected among few sure labels, and there may be none: the interval reaches as far as this quantile of their
number. Development draws: with 0.16 one of 33 revealed precisions lay above its interval, with 0.05 none."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """The probability that a label is right, given how sure the model is and which class it names.

    Logistic regression of "was it right" on the log-odds of the likeliest class (Platt scaling: Platt 1999), pooled over
    classes, with an offset for each class that is shrunk to 0 (a Gaussian prior), on held-out answers alone. What the answers do
    not settle is kept as a covariance (Laplace's approximation), so that any mean over the pool has an interval. It is an
    interval for the labels that are *accepted by the same answers*: the fit's uncertainty does not become less by having looked
    at it to choose a threshold. Means are taken over the pool's own accepted images, so that the classes have the shares that they
    have there, whatever the shares among the labels.

    Attributes:
        values: Shift, slope, offset of each class, (2 + classes,).
        covariance: Of the values, (2 + classes, 2 + classes).
        learned: Share of the labels that the held-out answers came from.
        labels: Held-out labels behind it.
        optimism: How many times more common errors are than was seen, see `HeldOut`.
    """

    values: Floats
    covariance: Floats
    learned: float
    labels: int
    optimism: float = 1.0

    @classmethod
    def fit(cls, held_out: HeldOut) -> Reliability:
        """Fit on held-out answers; with none the model is believed to be as such models are."""
        classes = held_out.probs.shape[1]
        count = held_out.share
        design = np.zeros((len(count), 2 + classes))
        design[:, 0], design[:, 1] = 1.0, log_odds(held_out.probs)
        design[np.arange(len(count)), 2 + held_out.guess] = 1.0
        center = np.zeros(2 + classes)
        center[1] = 1.0 if held_out.calibrated else _STRANGE_SLOPE
        belief = np.concatenate([[_SD_SHIFT**-2, _SD_SLOPE**-2], np.full(classes, _SD_CLASS**-2)])
        values, curvature = center.copy(), np.diag(belief)
        for _ in range(_STEPS):  # Newton's: a convex function of few values
            p = _logistic(design @ values)
            slope = design.T @ (count * (p - held_out.right)) + belief * (values - center)
            curvature = (design * (count * p * (1 - p))[:, None]).T @ design + np.diag(belief)
            step = np.linalg.solve(curvature, slope)
            values = values - step
            if np.abs(step).max() < 1e-9:
                break
        return cls(values, np.linalg.inv(curvature), held_out.learned, held_out.labels, held_out.optimism)

    def probability(self, probs: NDArray[np.floating]) -> Floats:
        """Return the probability that each label is right, (n,), of what the model says of the pool, (n, classes)."""
        return self._grown(_logistic(self._odds(probs)), self.learned)

    def precision(self, probs: NDArray[np.floating]) -> Interval:
        """Return the share of these labels that is right with its 95 % interval.

        Args:
            probs: What the model says of the accepted images, (n, classes), n >= 1.
        """
        plain = _logistic(self._odds(probs))
        slack = plain * (1 - plain)
        change = np.zeros(len(self.values))
        change[0], change[1] = slack.mean(), (slack * log_odds(probs)).mean()
        np.add.at(change, 2 + probs.argmax(1), slack / len(slack))
        mean = float(plain.mean())
        # On the scale of log-odds an interval stays within 0 and 1.
        sd = np.sqrt(change @ self.covariance @ change) / max(mean * (1 - mean), 1e-12)
        middle = np.log(mean / (1 - mean))
        low, high = _logistic(np.array([middle - Z95 * sd, middle + Z95 * sd]))
        ends = self._grown(low, self.learned**_LEAST_GAIN), self._grown(high, self.learned**_MOST_GAIN)
        return _with_luck(
            float(self._grown(mean, self.learned)), float(ends[0]), float(ends[1]), len(slack), self.labels
        )

    def _odds(self, probs: NDArray[np.floating]) -> Floats:
        shift, slope = self.values[:2]
        return np.asarray(shift + slope * log_odds(probs) + self.values[2 + probs.argmax(1)], np.float64)

    def _grown(self, right: Floats | float, error: float) -> Floats:
        """Return how often a model is right that errs ``error`` times as often, and as often again as the choice flattered it."""
        if self.optimism != 1.0:
            return np.asarray(np.maximum(1.0 - (1.0 - right) * (error * self.optimism), 0.0), np.float64)
        return np.asarray(1.0 - (1.0 - right) * error, np.float64)


def _with_luck(value: float, low: float, high: float, count: int, labels: int) -> Interval:
    """Return the interval of what ``count`` labels reveal, whose rate of being right lies between ``low`` and ``high``: the
    labels themselves are a draw, too.
    """
    below = Z95 * np.sqrt(low * (1 - low) / count)
    above = Z95 * np.sqrt(high * (1 - high) / count)
    least = value - float(np.hypot(value - low, below))
    most = value + float(np.hypot(high - value, above))
    none_wrong = 1.0 - fewest_errors(1.0 - high, count) / count
    return Interval(value, max(least, 0.0), min(max(most, none_wrong), 1.0), labels)


def fewest_errors(rate: float, count: int) -> int:
    """Return how few errors there may well be among ``count`` labels that err at ``rate``."""
    from scipy.stats import binom

    return int(binom.ppf(_LUCK, count, rate))


def log_odds(probs: NDArray[np.floating]) -> Floats:
    """Return the log-odds of the likeliest class, (n,), of probabilities (n, classes)."""
    sure = np.clip(probs.max(1).astype(np.float64), _CLIP, 1 - _CLIP)
    return np.asarray(np.log(sure / (1 - sure)), np.float64)


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float64)
