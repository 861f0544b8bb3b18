"""A power law with an interval: what an error of today becomes with more labels.

``error(m) = A (r + (1 - r) (m / n)^-c)`` with A the error with the n labels at hand, c how fast it falls and r the share of
it that no number of labels takes away (the asymptote ``a = r A``, never below zero). A hundred held-out labels say A to
within a fifth of itself, little of c and nearly nothing of r, and a plain fit extrapolates their noise. So all three have
priors, estimated on other data sets: A from how often fits disagree on unlabeled images, c from A (what is hard falls
slowly), both from how fast fits' doubt about these images falls with more labels, r small. The posterior is drawn by importance sampling: prior draws, weighted by how well they explain the errors
that were measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS = 20_000
_HALVINGS = 12
"""Of the way from one number of labels to another: a thousandth of it is left."""
_MOST = 0.95
"""An error is at most this, a share of it that stays as well."""


@dataclass(frozen=True)
class LawPrior:
    """What other data sets say of how an error falls.

    Attributes:
        level: Mean of log A; None where nothing but the held-out labels says anything of it.
        level_sd: Its standard deviation.
        exponent: Mean of c at an error of 10 %.
        by_error: How much larger it is for each e-fold of A.
        exponent_sd: Spread of c.
        asymptote: Mean of r (of an exponential distribution).
        wander: Standard deviation by which log-errors leave any such law, for each e-fold of the number of labels (its
            square grows with the logarithm of the factor).
        bend: Standard deviation by which the slope below the labels at hand is another one than above them: curves are
            steeper where labels are few, and what was measured on a quarter of the labels must not say too much of
            four times as many.
        draws: How much larger the variance of measured errors is than the held-out images say: the labels that were
            learned from are a draw as well.
    """

    level: float | None
    level_sd: float
    exponent: float
    by_error: float
    exponent_sd: float
    asymptote: float
    wander: float
    bend: float
    draws: float


@dataclass(frozen=True)
class Law:
    """Draws of the posterior.

    Attributes:
        labels: The number of labels n at which the error is ``level``.
        level: A of each draw, (draws,).
        exponent: c of each draw, (draws,).
        asymptote: r of each draw, (draws,).
        noise: Standard normal draw of each, by which it leaves the law, (draws,).
        wander: See `LawPrior`.
    """

    labels: float
    level: Array
    exponent: Array
    asymptote: Array
    noise: Array
    wander: float

    def at(self, labels: float) -> Array:
        """Return the error with that many labels of each draw, (draws,)."""
        factor = labels / self.labels
        law = self.level * (self.asymptote + (1 - self.asymptote) * factor**-self.exponent)
        away = self.wander * np.sqrt(abs(np.log(factor)))
        return np.asarray(np.minimum(law * np.exp(away * self.noise), 1.0))

    def labels_for(self, error: float, most: float) -> float | None:
        """Return the number of labels whose median error is ``error``; None where ``most`` labels do not reach it."""
        if self.quantiles(most)[0] > error:
            return None
        low, high = self.labels, most
        for _ in range(_HALVINGS):
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if self.quantiles(middle)[0] > error else (low, middle)
        return high

    def quantiles(self, labels: float, level: float = 0.8) -> tuple[float, float, float]:
        """Return the median and the interval that holds ``level`` of the draws."""
        tail = (1 - level) / 2
        low, middle, high = np.quantile(self.at(labels), [tail, 0.5, 1 - tail])
        return float(middle), float(low), float(high)


def fit_law(
    sizes: Array, errors: Array, covariance: Array, images: int, labels: float, prior: LawPrior, seed: int = 0
) -> Law:
    """Return the posterior of the law.

    Args:
        sizes: Numbers of labels of the measured points, (points,), largest first.
        errors: Held-out errors there, (points,).
        covariance: Of the errors, as the held-out images say, (points, points): points were measured on the same images.
        images: How many those are.
        labels: Number of labels n at hand.
        prior: What other data sets say.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    if prior.level is None:  # flat in log A: drawn from around what was measured, and the density divided out
        center, spread = float(np.log(max(errors[0], 0.5 / images))), 0.6
    else:
        center, spread = prior.level, prior.level_sd
    normal = rng.standard_normal(DRAWS)
    level = np.minimum(np.exp(center + spread * normal), _MOST)
    c = prior.exponent + prior.by_error * np.log(level / 0.1) + prior.exponent_sd * rng.standard_normal(DRAWS)
    c = np.abs(c)  # more labels never hurt in expectation: what would fall below zero is folded back
    r = np.minimum(rng.exponential(prior.asymptote, DRAWS), _MOST)
    expected = np.minimum(level * (r + (1 - r) * (sizes[:, None] / labels) ** -c), _MOST)
    misfit = _stable(np.maximum(errors, least_error(images)))[:, None] - _stable(expected)
    noise = _noise(errors, covariance, images) * prior.draws
    inverse = np.linalg.inv(noise + _bent(sizes, errors, images, prior.bend))
    fit = -0.5 * np.einsum("id,ij,jd->d", misfit, inverse, misfit)
    if prior.level is None:
        fit += 0.5 * normal**2
    weight = np.exp(fit - fit.max())
    chosen = rng.choice(DRAWS, DRAWS, p=weight / weight.sum())
    return Law(labels, level[chosen], c[chosen], r[chosen], rng.standard_normal(DRAWS), prior.wander)


def least_error(images: int) -> float:
    """Return the error that none wrong among so many images is taken for: their angle is no angle of zero (Anscombe, Biometrika
    1948), and an interval around it would be as narrow as if ten times as many had been asked.
    """
    return 0.375 / (images + 0.75)


def _stable(errors: Array) -> Array:
    """Return the angle of an error: its variance is the same, large or small, so that few errors are no sure few."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(errors, 0.0, 1.0))))


def _bent(sizes: Array, errors: Array, images: int, bend: float) -> Array:
    """Return the covariance of the angles where the slope below the largest part is another one than above it."""
    share = np.clip(errors, 0.5 / images, _MOST)
    away = bend * np.log(sizes[0] / sizes) * np.sqrt(share / (1 - share)) / 2
    return np.asarray(np.outer(away, away))


def _noise(errors: Array, covariance: Array, images: int) -> Array:
    """Return the covariance of the angles: that of counts, less where several fits were averaged."""
    spread = np.sqrt(np.diag(covariance))
    counted = np.sqrt(np.maximum(errors * (1 - errors), 1e-12) / images)
    share = np.where(spread > 0, np.clip(spread / counted, 0.5, 1.0), 1.0) / (2 * np.sqrt(images))
    alike = covariance / np.maximum(np.outer(spread, spread), 1e-18)
    np.fill_diagonal(alike, 1.0)
    alike = np.clip(alike, 0.0, 0.95)
    np.fill_diagonal(alike, 1.0)
    return np.asarray(alike * np.outer(share, share) + np.eye(len(errors)) * 1e-9)
