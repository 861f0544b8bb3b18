"""The fits of one rung: on every fold that there is time for, then on all labels. What is on disk is not done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fallow.engine import Diverged
from fallow.record import Decision
from fallow.study.context import RungContext
from fallow.study.memory import memory_enough
from fallow.study.rung import Candidate, Fold, Rung
from fallow.study.rungs import Below
from fallow.study.stage import Stage, StagePlan
from fallow.types import RungName

if TYPE_CHECKING:
    from fallow.study.ladder import Study


_SHARED = "shared"
"""Name of the folder of what all fits of a rung use."""
_LATE = 1.5
"""A fit is cut when it takes this many times what its rung planned for it."""


class GivenUp(Exception):
    """The training of a rung broke down: it is left out, and that is on disk."""


@dataclass(frozen=True)
class Fits:
    """Fits one rung.

    Attributes:
        study: Folds, evidence, clock, and the rungs below.
        ctx: What rungs look at.
        rung: The rung.
        stage: What it leaves on disk.
    """

    study: Study
    ctx: RungContext
    rung: Rung
    stage: Stage

    @property
    def name(self) -> RungName:
        """The rung's name."""
        return self.rung.info.name

    def held_out(self) -> str:
        """Fit on as many folds as the plan says; without one the first two fits tell how many there is time for.

        Returns:
            What was cut, in a sentence; empty where nothing was.

        Raises:
            GivenUp: Training broke down.
        """
        study, plan, spent = self.study, self.stage.plan(), self.stage.seconds()
        seconds = study.pace.held_out_seconds(spent, last=self.name == study.names[-1])
        last = 0.0
        for position, fold in enumerate(study.folds):
            if plan is not None and position >= plan.folds:
                break
            probs = self.stage.fold(fold.key, fold.held_out)
            if probs is None:
                cut = study.pace.cut(self.name, plan, position, len(study.folds), spent, last, seconds)
                if cut is not None:
                    plan = cut
                    self.stage.keep_plan(plan)
                    if position >= plan.folds:
                        break
                study.screen.progress(f"{self.name}: held-out fits", position, len(study.folds))
                started = time.monotonic()
                probs = self._fold(fold)
                took = time.monotonic() - started
                spent += took
                # What the first fit of some rungs does for all says nothing of the next.
                last = 0.0 if self.rung.shared and position == 0 else took
            else:
                self.stage.clear_workdir(fold.key)  # a kill may have come between the two
            study.evidence.add(self.name, fold.key, fold.held_out, probs)
        self._tell_cuts(final=False)
        if plan is None or not plan.note:
            return ""
        study.heed(plan)
        return plan.note

    def _fold(self, fold: Fold) -> NDArray[np.float32]:
        started, study, ctx = time.monotonic(), self.study, self.ctx
        plan = self.stage.plan()
        candidate = self._fit(fold, Below(ctx, fold, tuple(study.fitted), study.stages))
        images = ctx.data.images(tuple(ctx.data.labeled_ids[i] for i in fold.held_out))
        probs: NDArray[np.float32] = candidate.predict(images).probs.numpy()
        right = float((probs.argmax(1) == ctx.data.y[fold.held_out]).mean())
        if plan is not None and plan.steps:
            tensors, meta = candidate.state()
            self.stage.keep_candidate(fold.key, tensors, meta)
        self.stage.keep_fold(fold.key, fold.held_out, probs, {**self._line(started), "accuracy": right})
        self.stage.clear_workdir(fold.key)
        if self.name == study.names[-1]:
            ctx.drop_scratch(fold)  # no rung will ask for this fold again
        return probs

    def final(self) -> tuple[Candidate, bool]:
        """Return the candidate refitted on all labels, and whether it was made just now.

        Raises:
            GivenUp: Training broke down.
        """
        kept, decisions = self.stage.final(), self.study.decisions
        if kept is not None:
            tensors, meta = kept
            for made in meta["decisions"]:
                decisions.add(Decision.from_json(made))
            self._clear()
            self._tell_cuts(final=True)
            return self.rung.restore(self.ctx, tensors, meta["candidate"]), False
        started, known = time.monotonic(), list(decisions)
        candidate = self._fit(None, dict(self.study.fitted))
        tensors, state = candidate.state()
        made_now = [d.to_json() for d in decisions.since(known)]
        self.stage.keep_final(tensors, {"candidate": state, "decisions": made_now}, self._line(started))
        self._clear()
        self._tell_cuts(final=True)
        return candidate, True

    def _clear(self) -> None:
        """Keep nothing of what a fit needed to go on."""
        self.stage.clear_workdir(RungContext.scratch_key(None))
        self.stage.clear_workdir(_SHARED)

    def _fit(self, fold: Fold | None, below: Mapping[RungName, Candidate]) -> Candidate:
        """Fit in a folder of its own, where an interrupted fit of a trained rung goes on."""
        plan = self.stage.plan()
        if self.rung.workload is None or plan is None:
            return self.rung.fit(self.ctx, fold, below)
        key = RungContext.scratch_key(fold)
        self.ctx.workdir, self.ctx.stop = self.stage.workdir(key), self._stop(key, plan)
        self.ctx.shared = self.stage.workdir(_SHARED)
        known = list(self.study.decisions)
        try:
            with memory_enough():
                return self.rung.fit(self.ctx, fold, below, plan.steps)
        except Diverged as error:
            # The plan that is given up leaves its decision, for a run that goes on and never reads it.
            planned = [] if plan.decision is None else [plan.decision]
            self.stage.keep_decisions([*planned, *self.study.decisions.since(known)])
            self.stage.keep_plan(_given_up(self.name, error))
            self.stage.clear_workdir(key)
            self.stage.clear_workdir(_SHARED)
            raise GivenUp(str(error)) from error
        finally:
            self.ctx.workdir = self.ctx.stop = self.ctx.shared = None

    def _stop(self, key: str, plan: StagePlan) -> Callable[[int, float], bool]:
        """Return what ends a fit: the step at which it was ended before, or the clock, when the machine is much slower.

        The step is written down before the fit ends there, so that a run that goes on, or is done again, ends it there too.
        """
        known = self.stage.cut(key)
        if known is None:
            known = self.study.config.replay.cuts.get(f"{self.name}/{key}")
            if known is not None:
                self.stage.keep_cut(key, known)
        fits = 1 if self.rung.shared else plan.folds + 1
        allowed = None if plan.seconds is None else _LATE * plan.seconds / fits

        def stop(step: int, seconds: float) -> bool:
            if known is not None:
                return step >= known
            if allowed is None or seconds <= allowed or step == 0:
                return False
            self.stage.keep_cut(key, step)
            return True

        return stop

    def _tell_cuts(self, *, final: bool) -> None:
        """Tell which fits the clock ended, in this run or in the one that it goes on from or follows."""
        plan, refit = self.stage.plan(), RungContext.scratch_key(None)
        for key, step in self.stage.cuts().items():
            if plan is not None and (key == refit) is final:
                self.study.heed(_cut_short(self.name, key, plan, step))

    def _line(self, started: float) -> dict[str, float]:
        return {"seconds": time.monotonic() - started, "elapsed": self.study.clock.elapsed}


def _given_up(name: RungName, error: Diverged) -> StagePlan:
    rule = "A rung whose training breaks down is left out, and the run goes on with what it has."
    made = Decision(f"{name}.folds", "given up", "rule", rule, {"reason": str(error)})
    return StagePlan(0, 0.0, True, f"{name} was given up: {error}.", made)


def _cut_short(name: RungName, key: str, plan: StagePlan, step: int) -> StagePlan:
    """Return the sentence about a fit that the clock ended."""
    which = "refit" if key == RungContext.scratch_key(None) else f"fit on fold {key}"
    return replace(
        plan,
        note=f"{name}: the {which} was cut at step {step} of {plan.steps}, for the machine was slower than measured.",
        decision=None,
    )
