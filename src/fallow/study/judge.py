"""From out-of-fold posteriors to rows of the ladder: who is kept, and how good everyone is by the same measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.record import Decision, RungResult
from fallow.study.choose import (
    Comparison,
    Prior,
    accuracy_interval,
    both_ways,
    compare,
    gain_interval,
    keep,
    mix_weights,
    paired,
)
from fallow.study.evidence import OutOfFold
from fallow.study.priors import Network, prior
from fallow.study.rung import Candidate, RungInfo
from fallow.types import RungName

_FEW_ASKED = 20
"""Fewer held-out labels cannot tell a poor model from chance."""
_SKEW = 3.0
"""Once the pool has this many times as much of one class than of another, compared with the labels, held-out figures
are weighted to the pool's mix."""


@dataclass(frozen=True)
class Judgment:
    """What was decided about a rung when it was finished.

    Attributes:
        info: The rung.
        wins: It is better than the best below it.
        p_better: Probability of that; None for the first.
        prior_gain: Gain that was expected; None for labels-only rungs.
        seconds: What the rung took.
        note: What a person should know of it.
    """

    info: RungInfo
    wins: bool
    p_better: float | None
    prior_gain: float | None
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Judge:
    """Compares rungs on the labels that both were asked about out of fold.

    Attributes:
        evidence: Out-of-fold posteriors.
        per_class: Labels a class.
        seed: Seed of the resampling.
        without_prior: Data set whose rows the prior leaves out.
        network: What the trained rungs train; None where none is climbed.
    """

    evidence: OutOfFold
    per_class: float
    seed: int
    without_prior: str | None = None
    network: Network | None = None

    def judge(
        self,
        info: RungInfo,
        best: RungInfo | None,
        mix: NDArray[np.float64] | None,
        seconds: float,
        note: str = "",
    ) -> Judgment:
        """Compare a finished rung with the best below it."""
        prior_gain = None if info.labels_only else self._expected(info.name, "probe").mean
        if best is None:
            return Judgment(info, True, None, prior_gain, seconds, note)
        found = self._compare(info.name, best.name, mix)
        return Judgment(info, keep(found, info.cheap), found.p_better, prior_gain, seconds, note)

    def promising(self, info: RungInfo, best: RungName) -> bool:
        """Say whether a rung would be kept by what it did on other data alone."""
        return keep(compare(None, self._expected(info.name, best)), info.cheap)

    def results(
        self, judgments: Sequence[Judgment], mix: NDArray[np.float64] | None
    ) -> tuple[RungResult, ...]:
        """Return the rows of all finished rungs, every figure by the same weights; the last that won is kept."""
        winners = [j.info.name for j in judgments if j.wins]
        return tuple(self._result(j, j.info.name == winners[-1], mix) for j in judgments)

    def weights(
        self, where: NDArray[np.int64], mix: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """Return the weights of held-out images that give their classes the pool's shares; None where all weigh alike."""
        if mix is None or not len(where) or not skewed(mix, self.evidence.y):
            return None
        return mix_weights(self.evidence.y[where], mix)

    def _result(self, made: Judgment, kept: bool, mix: NDArray[np.float64] | None) -> RungResult:
        name = made.info.name
        where, correct = self.evidence.correct((name,))
        both, pair = self.evidence.correct((name, "probe"))
        y = self.evidence.y[where]
        recalls = [correct[name][y == c].mean() for c in np.unique(y)]
        return RungResult(
            name,
            accuracy_interval(correct[name], self.weights(where, mix)) if len(where) else None,
            balanced_held_out=float(np.mean(recalls)) if recalls else None,
            kept=kept,
            p_better=made.p_better,
            prior_gain=made.prior_gain,
            gain=gain_interval(pair[name], pair["probe"], self.weights(both, mix), self.seed)
            if len(both) and name != "probe"
            else None,
            seconds=made.seconds,
            note=made.note,
        )

    def _expected(self, name: RungName, best: RungName) -> Prior:
        return prior(name, self.per_class, over=best, network=self.network, without=self.without_prior)

    def _compare(self, name: RungName, best: RungName, mix: NDArray[np.float64] | None) -> Comparison:
        """Compare by the labels as they are, and where the pool's mix differs, by that mix: the worse of both counts.

        The mix comes from the rung's own answers, and a rung that calls everything one class would be weighted by
        just that class.
        """
        expected = self._expected(name, best)
        where, correct = self.evidence.correct((name, best))
        if not len(where):
            return compare(None, expected)
        found = [
            compare(paired(correct[name], correct[best], weights), expected)
            for weights in both_ways(self.weights(where, mix))
        ]
        return min(found, key=lambda one: one.p_better)


def at_chance(made: RungResult, y: NDArray[np.int64]) -> str:
    """Say in a sentence that a rung knows no more than chance; empty where it does, or where too few were asked.

    Args:
        made: The rung's figures.
        y: Classes of all labeled images.
    """
    chance = float(np.bincount(y).max() / len(y))
    if made.held_out is None or made.held_out.n < _FEW_ASKED or made.held_out.low > chance:
        return ""
    return (
        f"{made.rung} is right on {made.held_out.value:.0%} of the held-out labels, where always naming the commonest class "
        f"would be on {chance:.0%}: the labels may be mixed up, or the network sees nothing of what they are about. Look at the "
        "labels first."
    )


def skewed(mix: NDArray[np.float64], y: NDArray[np.int64]) -> bool:
    """Return True where class shares differ between pool and labels by more than three to one.

    Args:
        mix: Estimated share of each class in the pool, (classes,).
        y: Classes of all labeled images.
    """
    ratio = mix / np.maximum(np.bincount(y, minlength=len(mix)) / len(y), 1e-12)
    return float(ratio.max() / max(float(ratio.min()), 1e-6)) > _SKEW


def pool_mix(finals: Mapping[RungName, Candidate]) -> NDArray[np.float64] | None:
    """Return the pool's class shares as the highest rung that estimated them has it; None where none did."""
    return next((c.mix for c in reversed(list(finals.values())) if c.mix is not None), None)


def weights_decision(mix: NDArray[np.float64], y: NDArray[np.int64]) -> Decision:
    """Return what the pool's class shares mean for held-out figures."""
    return Decision(
        "choose.weights",
        "pool mix" if skewed(mix, y) else "as labeled",
        "rule",
        "Held-out figures follow the pool's estimated class shares once these differ from the labels' by more than "
        f"{_SKEW:g} to 1.",
        {"mix": [round(float(m), 4) for m in mix]},
    )
