"""Which rung? Choosing maximizes expected accuracy; claiming needs the 95 % paired interval. They are two things.

Everything here reads out-of-fold correctness only: one number in 0..1 per held-out image and rung (the mean over
repeats of whether the image was named rightly by a model that never saw its label).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from fallow.record import Interval
from fallow.types import RungName

Array = NDArray[np.float64]
Z95 = 1.959963984540054
BAR, UNSEEN_BAR = 0.5, 0.8
"""P(better) that a rung needs to be kept. Once it was measured its time is spent, and the balance of prior and evidence is the
most accurate choice (to demand more gave away 2 points in the mean of whole development runs, and 8 on CIFAR-10). A dear rung
that nothing could measure must persuade by what it did elsewhere: nobody would see it fail."""
SHARED_LABELS = 3.0
"""How much larger the variance of a held-out gain is than its images say, as evidence for the gain on new images: all of
them were judged by models from the same few labels, and err together (Nadeau and Bengio, Machine Learning 2003). Measured
on development cells: the squared distance to the test gain, in units of the plain variance, is 2.9 in the mean."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Prior:
    """What a rung gained over labels only on other data sets at a like number of labels a class.

    Attributes:
        mean: Mean gain in accuracy.
        sd: Spread of that gain over data sets and draws.
    """

    mean: float
    sd: float


@dataclass(frozen=True)
class Comparison:
    """Evidence that a rung beats the best below it.

    Attributes:
        p_better: Posterior probability that its accuracy is higher.
        expected: Posterior mean of the gain.
        observed: Mean paired difference on held-out labels; None where nothing could be held out.
    """

    p_better: float
    expected: float
    observed: float | None


def _normal_cdf(x: float) -> float:
    return 0.5 * (1 + erf(x / sqrt(2)))


def _weights(n: int, weights: Array | None) -> Array:
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    return np.asarray(w / w.sum(), np.float64)


def accuracy_interval(correct: Array, weights: Array | None = None) -> Interval:
    """Return accuracy with its 95 % Wilson interval (E. B. Wilson, JASA 1927).

    Wilson rather than a bootstrap: with 20 of 20 right a bootstrap would claim certainty.

    Args:
        correct: (n,) in 0..1.
        weights: (n,) importance of each image; the effective number of images shrinks accordingly.
    """
    w = _weights(len(correct), weights)
    p, n = float(np.average(correct, weights=w)), float(1 / (w @ w))  # all right is 1, not nearly 1
    middle = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half), len(correct))


def gain_interval(new: Array, old: Array, weights: Array | None = None, seed: int = 0) -> Interval:
    """Return the paired gain of ``new`` over ``old`` with its 95 % bootstrap interval over images.

    Args:
        new: Correctness of the rung, (n,).
        old: Correctness of what it is compared with, on the same images, (n,).
        weights: Importance of each image, (n,).
        seed: Seed of the resampling.
    """
    difference, w = np.asarray(new) - np.asarray(old), _weights(len(new), weights)
    n = len(difference)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(np.float64) * w
    means = counts @ difference / counts.sum(1)
    # One virtual image of gain and one of loss keep the interval honest where every difference is the same.
    floor = Z95 * sqrt(2.0) / (n + 2) / 2 if np.ptp(difference) == 0 else 0.0
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(w @ difference), float(low - floor), float(high + floor), n)


def claims(new: Array, old: Array, weights: Array | None = None, seed: int = 0) -> bool:
    """Return whether "better" may be claimed: no gain lies outside of the 95 % paired interval.

    With ``weights`` (the pool's mix, which comes from a rung's own answers) it must also with the labels as they are.
    """
    return all(gain_interval(new, old, w, seed).low > 0 for w in both_ways(weights))


def both_ways(weights: Array | None) -> tuple[Array | None, ...]:
    """Return the weights that a rung must win by: the labels as they are, and the pool's mix where that differs."""
    return (None,) if weights is None else (None, weights)


@dataclass(frozen=True)
class Paired:
    """What the held-out labels say of the difference between two rungs.

    Attributes:
        observed: Mean paired difference in accuracy.
        variance: Variance of that mean over images, the labels that the models learned from taken as given.
    """

    observed: float
    variance: float


def paired(new: Array, old: Array, weights: Array | None = None) -> Paired:
    """Return the mean paired difference in correctness and its variance.

    Args:
        new: Out-of-fold correctness of one rung, (n,), n >= 1.
        old: The same of the other, on the same images.
        weights: Importance of each image.
    """
    difference, w = np.asarray(new) - np.asarray(old), _weights(len(new), weights)
    observed = float(w @ difference)
    # Two virtual discordant images: the variance of n equal differences is not zero.
    spread = (float(w @ (difference - observed) ** 2) * len(new) + 2.0 * 0.25) / (len(new) + 2)
    return Paired(observed, spread * float(w @ w))


def compare(evidence: Paired | None, prior: Prior) -> Comparison:
    """Combine the prior gain of a rung with the paired evidence (normal-normal).

    Demanding significance on 20 to 100 labels throws gains away; believing 20 labels alone follows noise. The
    posterior does neither.

    Args:
        evidence: From `paired`, of the rung against the best below it; None where nothing can be held out.
        prior: Gain expected from other data sets.
    """
    if evidence is None:
        return Comparison(_normal_cdf(prior.mean / prior.sd), prior.mean, None)
    variance = SHARED_LABELS * evidence.variance
    precision = 1 / prior.sd**2 + 1 / variance
    expected = (prior.mean / prior.sd**2 + evidence.observed / variance) / precision
    return Comparison(_normal_cdf(expected * sqrt(precision)), expected, evidence.observed)


def keep(comparison: Comparison, cheap: bool) -> bool:
    """Return whether a rung replaces the best below it; of equals the simpler stays."""
    unseen = comparison.observed is None and not cheap
    return comparison.p_better >= UNSEEN_BAR if unseen else comparison.p_better > BAR


def corrected_for_choice(
    correct: Mapping[RungName, Array], chosen: RungName, weights: Array | None = None, seed: int = 0
) -> Interval:
    """Return the accuracy of the chosen rung, corrected for having been chosen as the best of several.

    The bootstrap of the choice itself: in each resample the winner's advantage over its own full-sample accuracy is the
    optimism that comes from picking a maximum; its mean is taken off (Efron's optimism bootstrap; for a winner among
    few candidates as in Tibshirani and Tibshirani 2009).

    Args:
        correct: Correctness per rung on the same images.
        chosen: The rung whose figure is wanted.
        weights: Importance of each image.
        seed: Seed of the resampling.
    """
    names = list(correct)
    plain = accuracy_interval(correct[chosen], weights)
    if len(names) < 2:
        return plain
    table = np.stack([correct[name] for name in names])
    n = table.shape[1]
    w = _weights(n, weights)
    full = table @ w
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(np.float64) * w
    resampled = counts @ table.T / counts.sum(1, keepdims=True)
    winner = resampled.argmax(1)
    optimism = max(0.0, float((resampled[np.arange(_RESAMPLES), winner] - full[winner]).mean()))
    return Interval(
        max(0.0, plain.value - optimism),
        max(0.0, plain.low - optimism),
        max(0.0, plain.high - optimism),
        plain.n,
    )


def mix_weights(y: NDArray[np.int64], mix: Sequence[float] | Array) -> Array:
    """Return the weight of each held-out image that turns the labels' class shares into the pool's estimated mix.

    Args:
        y: Classes of the held-out images, (n,).
        mix: Estimated share of each class in the pool, (classes,).
    """
    share = np.bincount(y, minlength=len(mix)) / len(y)
    ratio = np.asarray(mix, np.float64) / np.maximum(share, 1e-12)
    return ratio[y]
