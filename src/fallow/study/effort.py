"""How long trained rungs train: steps and folds are planned once, before the first, from data, speed and budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fallow.record import Decision
from fallow.study.rung import Workload
from fallow.study.stage import StagePlan
from fallow.types import JsonObject, RungName

_SHARES = {"finetune": 1.0, "joint": 1.2, "pretrain": 0.6, "noisy_student": 0.8, "ensemble": 0.05}
"""How the time left is shared by the trained rungs that are still to come."""
_OPPONENT = 1 / 3
"""Labels only is a funded opponent: it has at least this much of the time for training."""
SLOWER = 1.15
"""A fit takes this much longer than its steps: reading, averages."""
_FIT = 1.0
"""Seconds that a fit takes to begin and to be kept."""
_FEWEST_FOLDS = 2


@dataclass(frozen=True)
class Effort:
    """What a trained rung may spend.

    Attributes:
        name: The rung.
        seconds: For all of its fits.
        step: Seconds of one step.
        workload: How many steps make sense.
        folds: Folds that it could be measured on: no more than the trained rungs below were.
        beside: Seconds of each fit beside its steps: what teachers say, cheap rungs fitted again, held-out images.
        once: Seconds for what all fits share, before the first.
        after: Seconds that its answers will take once all rungs are climbed; no part of ``seconds``.
        shared: The steps are taken once, not by each fit.
    """

    name: RungName
    seconds: float
    step: float
    workload: Workload
    folds: int
    beside: float = 0.0
    once: float = 0.0
    after: float = 0.0
    shared: bool = False

    def plan(self) -> StagePlan:
        """Return steps and folds: as many folds as leave enough steps, else few folds and fewer steps, else none."""
        figures: JsonObject = {
            "seconds_allowed": round(self.seconds, 1),
            "seconds_a_step": round(self.step, 4),
            "seconds_once": round(self.once, 1),
            "seconds_beside_steps": round(self.beside, 1),
            "seconds_after": round(self.after, 1),
            "folds": self.folds,
        }
        if not self.workload.most:  # nothing is trained
            return StagePlan(self.folds, steps=0, after=self.after)
        fewest = min(_FEWEST_FOLDS, self.folds)
        for folds in range(self.folds, fewest - 1, -1):
            steps = self._steps(folds)
            if steps >= self.workload.enough:
                return self._made(folds, min(steps, self.workload.most), figures)
        folds, steps = fewest, self._steps(fewest)
        if steps >= self.workload.least:
            return self._made(folds, min(steps, self.workload.most), figures)
        trained = 1 if self.shared else folds + 1
        needed = self.workload.least * self.step * SLOWER * trained + self._least * (folds + 1) + self.once
        note = (
            f"{self.name} was skipped: {self.workload.least} steps on {folds} folds and all labels need about {needed:.0f} s, "
            f"and its share of the time left is {max(self.seconds, 0.0):.0f} s."
        )
        rule = "A trained rung is left out when its share of the time does not hold the fewest steps that make sense."
        made = Decision(
            f"{self.name}.folds", "skipped", "rule", rule, {**figures, "seconds_needed": round(needed, 1)}
        )
        return StagePlan(0, 0.0, True, note, made)

    @property
    def _least(self) -> float:
        """Seconds that any fit takes, whatever its steps."""
        return _FIT + self.beside

    def _steps(self, folds: int) -> int:
        each = self.seconds - self.once - self._least * (folds + 1)
        each = each if self.shared else each / (folds + 1)
        return int(each / (self.step * SLOWER)) if each > 0 else 0

    def _made(self, folds: int, steps: int, figures: JsonObject) -> StagePlan:
        rule = "As many folds as leave enough steps for each fit in the rung's share of the time; then as many steps as fit."
        made = Decision(
            f"{self.name}.steps", steps, "rule", rule, {**figures, "folds": folds, "folds_there": self.folds}
        )
        return StagePlan(folds, self.seconds, decision=made, steps=steps, after=self.after)


def share_of(name: RungName, names: Sequence[RungName]) -> float:
    """Return the share of the time left that a trained rung may take.

    Args:
        name: The rung.
        names: All rungs of the run, in order.
    """
    coming = [n for n in names[names.index(name) :] if n in _SHARES]
    share = _SHARES[name] / sum(_SHARES[n] for n in coming)
    return max(share, _OPPONENT) if name == "finetune" else share


def no_time(name: RungName, seconds: float) -> StagePlan:
    """Return the plan to leave a trained rung out for which no time is left, not even to measure a step."""
    note = f"{name} was skipped: no time was left to train a network."
    rule = "A trained rung is left out when its share of the time does not hold the measuring of a step."
    figures: JsonObject = {"seconds_allowed": round(max(seconds, 0.0), 1)}
    return StagePlan(0, 0.0, True, note, Decision(f"{name}.folds", "skipped", "rule", rule, figures))


def unmeasurable(name: RungName) -> StagePlan:
    """Return the plan to leave a trained rung out that nothing could ever choose."""
    note = f"{name} was skipped: nothing can be held out to measure it, and elsewhere it did not win often enough."
    rule = "A trained rung that cannot be measured is tried only where the prior alone would keep it."
    return StagePlan(0, 0.0, True, note, Decision(f"{name}.folds", "skipped", "rule", rule))
