"""Which learning rates work: a short run in which the rate rises step by step, and how its losses are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MEMORY = 0.8
"""Losses are averaged over about five steps: single batches are too noisy to read a slope from."""
_DIVERGED = 2.0
"""The loss has left for good where it is higher than its lowest by so many times what it had come down by."""
_LEAST_FALL = 0.02
"""A loss that falls by less than this share of where it began tells nothing of slopes."""
_BACK_OFF = 10.0


@dataclass(frozen=True)
class RateRange:
    """What a run with rising rates showed.

    Attributes:
        steepest: Rate at which the loss fell fastest; None where it never fell.
        lowest: Rate at which the loss was lowest; None where it never fell.
        diverged: Rate at which the loss had risen for good or was no number; None where no rate was too high.
    """

    steepest: float | None
    lowest: float | None
    diverged: float | None

    @property
    def suggestion(self) -> float | None:
        """The geometric middle between the steepest fall and a tenth of the rate of the lowest loss; None without a fall.

        Smith 2017 (arXiv 1506.01186) takes the rate where the loss falls fastest; a tenth of that of the lowest loss is the
        other habit. The first is too low where the loss falls early, the second where it hardly rises: the middle errs less.
        """
        if self.steepest is None or self.lowest is None:
            return None
        return float(np.sqrt(self.steepest * self.lowest / _BACK_OFF))

    @property
    def ceiling(self) -> float:
        """A rate that no run should begin with more than: half of where the loss rose for good; infinite where it did not."""
        return float("inf") if self.diverged is None else self.diverged / 2


def rising_rates(low: float, high: float, count: int) -> NDArray[np.float64]:
    """Return learning rates for ``count`` steps, each a fixed multiple of the one before, (count,).

    Args:
        low: First rate.
        high: Last rate.
        count: Steps; 20 and more are needed to tell a slope from noise.

    Raises:
        ValueError: The rates do not rise, or there are fewer than two.
    """
    if not 0 < low < high or count < 2:
        raise ValueError(f"rates should rise over 2 steps or more, not from {low:g} to {high:g} over {count}")
    return np.asarray(np.geomspace(low, high, count))


def rate_range(rates: Sequence[float], losses: Sequence[float]) -> RateRange:
    """Read the losses of a run in which the learning rate rose.

    Losses are smoothed by a moving average that is corrected for its start (Kingma and Ba 2015, section 3). From the first
    step at which the smoothed loss is no number, or higher than its lowest so far by twice what it had come down by, the rates
    are too high. The steepest fall is that of the smoothed loss over the logarithm of the rate.

    Args:
        rates: Learning rate of each step, rising, (n,).
        losses: Loss of each step before its update, (n,) or fewer: a run may end early.

    Raises:
        ValueError: There are more losses than rates, or none.
    """
    if not 0 < len(losses) <= len(rates):
        raise ValueError(f"there should be a loss for each of {len(rates)} rates, not {len(losses)}")
    x, smooth = np.log(np.asarray(rates[: len(losses)])), _smoothed(losses)
    end = _end(smooth)
    diverged = float(rates[end]) if end < len(smooth) else None
    smooth = smooth[:end]
    if len(smooth) < 3:
        return RateRange(None, None, diverged)
    bottom = int(smooth.argmin())
    if smooth[0] - smooth[bottom] < _LEAST_FALL * abs(smooth[0]):
        return RateRange(None, None, diverged)
    slopes = np.gradient(smooth, x[: len(smooth)])
    return RateRange(float(rates[int(slopes[: bottom + 1].argmin())]), float(rates[bottom]), diverged)


def _smoothed(losses: Sequence[float]) -> NDArray[np.float64]:
    made, mean = [], 0.0
    for step, loss in enumerate(losses, start=1):
        mean = _MEMORY * mean + (1 - _MEMORY) * float(loss)
        made.append(mean / (1 - _MEMORY**step))
    return np.asarray(made)


def _end(smooth: NDArray[np.float64]) -> int:
    """Return the first step at which the loss has left for good; the number of steps where it has not."""
    lowest = smooth[0]
    for step, loss in enumerate(smooth):
        if not np.isfinite(loss):
            return step
        lowest = min(lowest, loss)
        if loss - lowest > _DIVERGED * max(smooth[0] - lowest, 0.1 * abs(smooth[0])):
            return step
    return len(smooth)
