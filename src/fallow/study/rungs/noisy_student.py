"""Rung 7: everything that was learned so far labels the pool, and a network learns that under noise."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, cast

import torch

from fallow.engine import LoopSettings, Outcome
from fallow.methods import JointMethod, NoisyStudent
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.candidates.network import TrainedCandidate, vote
from fallow.study.context import RungContext
from fallow.study.rung import Fold, RungInfo, Workload
from fallow.study.rungs.trained import Below, TrainedRung
from fallow.study.trained.fit import Fit, mixing, record_training
from fallow.study.trained.guide import by_position
from fallow.study.trained.network import network_plan

_TEACHERS = ("propagate", "joint", "pretrain")
"""Who teaches: rungs that learned from the pool in different ways, so that they err apart."""
_SECOND_ROUND = 1.5
"""A second round is taken where the steps are this many times those that one needs."""
_ROUNDS = 2
"""Rounds that there may be where nobody said."""
_DROPOUT = 0.1


class NoisyStudentRung(TrainedRung):
    """One or more rounds of: the teacher labels the pool softly, a student learns labels and pool, strongly noised.

    The teacher is made by rule and not by held-out figures, which no fold may look at: the average of the rungs below that
    learned from the pool. Each round's student joins the average that teaches the next.

    From scratch a student begins as the network that learned from the pool alone, where the rung *pretrain* was climbed, as
    SimCLRv2 hands on what a pretrained teacher knows (Chen et al. 2020, section 2). Six development draws of digits with 2 and 4
    labels a class and of Fashion-MNIST: better by 0.0 to 2.1 points, 0.9 in the mean, and as good as a student twice as wide from
    random weights, which takes up to four times as long.
    """

    info: ClassVar[RungInfo] = RungInfo(
        "noisy_student",
        "what was learned so far labels the pool, a noised network learns it",
        False,
        False,
        True,
    )
    workload = Workload(least=60, enough=300, most=2500)
    on_pretrained = True

    def method(self, fit: Fit, below: Below, steps: int) -> JointMethod:
        """Return the student's lesson: the teacher's soft labels of the pool, looked up by position."""
        pool, classes = len(fit.ctx.pool), fit.classes
        teacher = _teacher(fit, below)
        probs = (
            torch.full((pool, classes), 1 / classes) if teacher is None else fit.pool_probs(teacher).float()
        )
        return NoisyStudent(fit.ctx.task, teacher=by_position(probs))

    def questions(self, ctx: RungContext) -> int:
        """Return how often a trained teacher is asked: where rungs below trained one, and by every round but the first."""
        rounds, names = ctx.config.noisy_student.rounds, ctx.config.rung_names
        begun = "pretrain" in names and network_plan(ctx).scratch  # what is said with it, for its head
        taught = {"joint", "pretrain"} & set(names) or ("propagate" not in names and "finetune" in names)
        return int(bool(taught)) + int(begun) + (rounds if isinstance(rounds, int) else _ROUNDS) - 1

    def own_noise(self, ctx: RungContext) -> tuple[float, float]:
        """Return the student's own noise: dropout and stochastic depth."""
        asked = ctx.config.noisy_student
        dropout = _DROPOUT if asked.dropout == "auto" else float(asked.dropout)
        return dropout, 0.0 if asked.drop_path == "auto" else float(asked.drop_path)

    def fit(
        self, ctx: RungContext, fold: Fold | None, below: Below, steps: int | None = None
    ) -> TrainedCandidate:
        """Train round by round."""
        assert steps is not None
        fit = Fit.of(ctx, fold, joint=True)
        rounds = self._rounds(ctx, fold, steps)
        settings = fit.settings(max(1, steps // rounds))
        taught, spent = dict(below), 0.0
        for number in range(1, rounds + 1):
            outcome = self._round(fit, taught, settings, number, rounds, spent)
            cut = outcome.steps < settings.steps  # the clock has ended it
            if cut and number > 1:  # a student half taught is no better than its teacher
                break
            last = number == rounds or cut
            candidate = fit.candidate(self.info.name if last else f"{self.info.name}-{number}", outcome)
            if last:
                break
            taught[f"round {number}"], spent = candidate, spent + outcome.seconds
        return candidate

    def _round(
        self, fit: Fit, below: Below, settings: LoopSettings, number: int, rounds: int, spent: float
    ) -> Outcome:
        """Train one student. The clock, which may end the fit, counts the steps of all rounds."""
        place = fit.place(self.info.name)
        if place is not None and rounds > 1:
            place = replace(place, folder=place.folder / f"round-{number}", name=f"{place.name}-{number}")
        own = replace(settings, seed=settings.seed + 7919 * (number - 1))
        loop = fit.loop(
            self.network(fit, below),
            self._built(fit, below, settings.steps),
            own,
            title=f"{self.info.name}, round {number}: steps" if rounds > 1 else f"{self.info.name}: steps",
            place=place,
            mix=mixing(fit.ctx, fit.fold, self.mix),
        )
        before, stop = (number - 1) * settings.steps, fit.ctx.stop
        outcome = loop.run(None if stop is None else lambda step, took: stop(before + step, spent + took))
        if fit.fold is None:
            record_training(fit.ctx, self.info.name, own, outcome)
        return outcome

    def _rounds(self, ctx: RungContext, fold: Fold | None, steps: int) -> int:
        asked = ctx.config.noisy_student.rounds
        assert self.workload is not None
        rounds = (
            asked
            if isinstance(asked, int)
            else 1 + (_ROUNDS - 1) * (steps >= _SECOND_ROUND * self.workload.enough)
        )
        if fold is None:
            pinned, rule = isinstance(asked, int), "A second round where the planned steps are enough for it."
            ctx.decide("noisy_student.rounds", rounds, "Asked for." if pinned else rule, pinned)
        return rounds


def _teacher(fit: Fit, below: Below) -> FrozenCandidate | None:
    """Return who teaches; None where only a step's time is measured."""
    chosen = [name for name in below if name in _TEACHERS or name.startswith("round")]
    found = [below[name] for name in chosen or list(below)[-1:]]
    members = [cast(FrozenCandidate, candidate) for candidate in found]
    return vote(members, final=fit.fold is None) if members else None
