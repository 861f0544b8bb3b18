"""The study: read, embed, climb, choose, leave. Each step is one call to a room below."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fallow.config import TrainConfig
from fallow.data import Source, audit, cache_dir, check_trainable
from fallow.errors import RunError
from fallow.models import Backbone
from fallow.record import Decision, DecisionLog, RunDir, RungResult, StudyResult, read_json, write_json
from fallow.report import LiveLadder
from fallow.study.bank import SpaceBank
from fallow.study.choose import (
    Comparison,
    Prior,
    accuracy_interval,
    compare,
    gain_interval,
    keep,
    mix_weights,
)
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.data import StudyData, plan_folds
from fallow.study.evidence import OutOfFold
from fallow.study.leave import keep_model, leave
from fallow.study.plan import SpacePlan, plan_spaces
from fallow.study.priors import prior
from fallow.study.rung import Candidate, Fold, Rung
from fallow.study.rungs import RUNGS, Below
from fallow.study.stage import Stage
from fallow.tasks import classification_task
from fallow.types import RungName

_FOLDS_SHARE = 0.4
"""Share of the time left that held-out fits of one rung may take; refit, export, test and report need the rest."""
_SKEW = 3.0
"""Past this ratio between largest and smallest class of the pool, held-out figures are weighted to the pool's mix."""


class Study:
    """One run of the ladder.

    Args:
        source: Where images come from.
        config: What was asked for.
        run: The run directory; artefacts found there are used, not made again.
        clock: The budget.
        own: The user's own backbone.
        screen: Who watches.
        without_prior: A data set whose rows the chooser's prior leaves out (for benchmarks on that data set).
    """

    def __init__(
        self,
        source: Source,
        config: TrainConfig,
        run: RunDir,
        clock: Clock,
        *,
        own: Backbone | None = None,
        screen: LiveLadder | None = None,
        without_prior: str | None = None,
    ) -> None:
        self.source, self.config, self.run, self.clock, self.own = source, config, run, clock, own
        self.screen = screen or LiveLadder(enabled=False)
        self.without_prior = without_prior
        self.decisions = DecisionLog()
        self.results: list[RungResult] = []
        self.finals: dict[RungName, Candidate] = {}
        self.notes: list[str] = []

    def climb(self) -> StudyResult:
        """Do everything and return what was measured; the run directory then holds model, report and figures."""
        ctx = self._prepare()
        self.folds = plan_folds(ctx.data, self.config.choose, self.config.seed, self.decisions)
        self._write_decisions()
        self.evidence = OutOfFold(ctx.data.labeled_ids, ctx.data.y, len(ctx.data.classes))
        names = [n for n in self.config.rung_names if ctx.data.pool_ids or not RUNGS[n].info.needs_pool]
        best: RungName | None = None
        for index, name in enumerate(names, start=1):
            rung = RUNGS[name]
            if not self._fits(ctx, rung, best):
                continue
            best = self._climb_rung(ctx, rung, Stage(self.run.stage(index, name)), best)
        assert best is not None  # the probe always runs
        self.evidence.write(self.run.path / "out_of_fold.parquet")
        return leave(self, ctx, best)

    def _prepare(self) -> RungContext:
        self.screen.stage("read")
        found = audit(self.source, progress=self.screen.progress)
        write_json(self.run.audit, found.to_json())
        check_trainable(found)
        for decision in found.decisions:
            self.decisions.add(decision)
        data = StudyData.build(found, self.config.seed, self.decisions)
        data.table.write(self.run.splits)
        self.screen.start(found.source.describe(), data.counts)
        bank = SpaceBank(self.config.embed, cache_dir(), self.config.offline, self.own, self.screen.progress)
        self.screen.stage("embed")
        plan = self._plan(data, bank)
        if plan.pool < len(data.pool_ids):
            kept = np.sort(
                np.random.default_rng(self.config.seed).permutation(len(data.pool_ids))[: plan.pool]
            )
            data = replace(data, pool_ids=tuple(data.pool_ids[i] for i in kept))
        task = classification_task(data.classes)
        return RungContext(
            data, task, bank, self.config, self.decisions, self.clock, plan, progress=self.screen.progress
        )

    def _plan(self, data: StudyData, bank: SpaceBank) -> SpacePlan:
        """Plan what to embed, or take the plan of the run that goes on: a plan depends on the clock, a result must not."""
        path = self.run.path / "plan.json"
        if not path.is_file():
            plan = plan_spaces(data, bank, self.clock, self.decisions)
            write_json(
                path,
                {"data": data.fingerprint(), "spaces": plan.to_json(), "decisions": self.decisions.to_json()},
            )
            return plan
        kept = read_json(path)
        if kept["data"] != data.fingerprint():
            raise RunError(
                f"the images or labels changed since '{self.run.path}' was started: start a new run, or bring them back"
            )
        self.decisions = DecisionLog.from_json(kept["decisions"])
        return SpacePlan.from_json(kept["spaces"])

    def _fits(self, ctx: RungContext, rung: Rung, best: RungName | None) -> bool:
        """Say whether a rung fits into what is left of the budget; the probe is never left out."""
        if best is None or Stage(self.run.stage(len(self.results) + 1, rung.info.name)).final() is not None:
            return True
        needed = rung.estimate(ctx).seconds
        if needed <= self.clock.left:
            return True
        left = max(self.clock.left, 0)
        self.notes.append(
            f"{rung.info.name} was skipped: it needs about {needed:.0f} s and {left:.0f} s were left."
        )
        return False

    def _climb_rung(self, ctx: RungContext, rung: Rung, stage: Stage, best: RungName | None) -> RungName:
        name = rung.info.name
        self.screen.stage(name)
        before, started = stage.seconds(), time.monotonic()
        allowed = self.clock.left * _FOLDS_SHARE
        for position, fold in enumerate(self.folds):
            self.screen.progress(f"{name}: held-out fits", position, len(self.folds))
            spent = time.monotonic() - started
            if position and stage.fold(fold.key) is None and spent * (position + 1) / position > allowed:
                self.notes.append(
                    f"{name} was measured on {position} of {len(self.folds)} folds: the budget ended there."
                )
                break
            self._fold(ctx, rung, stage, fold)
        self.finals[name] = self._final(ctx, rung, stage)
        result, wins = self._measure(ctx, rung, best, before + time.monotonic() - started)
        self.results = [*([replace(r, kept=False) for r in self.results] if wins else self.results), result]
        self.screen.rung(result)
        if wins:
            keep_model(self, ctx, name)
        return name if wins or best is None else best

    def _fold(self, ctx: RungContext, rung: Rung, stage: Stage, fold: Fold) -> None:
        done = stage.fold(fold.key)
        if done is None:
            started = time.monotonic()
            candidate = rung.fit(ctx, fold, Below(ctx, fold, tuple(self.finals)))
            images = ctx.data.images(tuple(ctx.data.labeled_ids[i] for i in fold.held_out))
            probs = candidate.predict(images).probs.numpy()
            right = float((probs.argmax(1) == ctx.data.y[fold.held_out]).mean())
            line = {"seconds": time.monotonic() - started, "accuracy": right}
            stage.keep_fold(fold.key, fold.held_out, probs, line)
            done = fold.held_out, probs
        self.evidence.add(rung.info.name, fold.key, *done)

    def _final(self, ctx: RungContext, rung: Rung, stage: Stage) -> Candidate:
        kept = stage.final()
        if kept is not None:
            tensors, meta = kept
            for made in meta["decisions"]:
                self.decisions.add(Decision.from_json(made))
            return rung.restore(ctx, tensors, meta["candidate"])
        started, known = time.monotonic(), {d.name for d in self.decisions}
        candidate = rung.fit(ctx, None, self.finals)
        tensors, state = candidate.state()
        made_now = [d.to_json() for d in self.decisions if d.name not in known]
        line = {"seconds": time.monotonic() - started}
        stage.keep_final(tensors, {"candidate": state, "decisions": made_now}, line)
        return candidate

    def weights(self, ctx: RungContext, where: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return weights that turn the held-out labels' class shares into the pool's, or None where they agree."""
        mixes = [c.mix for c in self.finals.values() if c.mix is not None]
        if not mixes:
            return None
        mix = mixes[-1]
        skewed = float(mix.max() / max(mix.min(), 1e-6)) > _SKEW
        self.decisions.add(
            Decision(
                "choose.weights",
                "pool mix" if skewed else "as labeled",
                "rule",
                f"Held-out figures follow the pool's estimated class shares once these differ by more than {_SKEW:g} to 1.",
                {"mix": [round(float(m), 4) for m in mix]},
            )
        )
        return mix_weights(ctx.data.y[where], mix) if skewed else None

    def _measure(
        self, ctx: RungContext, rung: Rung, best: RungName | None, seconds: float
    ) -> tuple[RungResult, bool]:
        """Compare a rung with the best below it and say whether it is kept."""
        name, info = rung.info.name, rung.info
        expected = self._expected(ctx, name)
        if best is None:
            comparison, wins = None, True
        else:
            comparison = self._compare(ctx, name, best, expected)
            wins = keep(comparison, info.cheap)
        where, correct = self.evidence.correct((name,))
        held_out = accuracy_interval(correct[name], self.weights(ctx, where)) if len(where) else None
        both, pair = self.evidence.correct((name, "probe"))
        gain = (
            gain_interval(pair[name], pair["probe"], self.weights(ctx, both), self.config.seed)
            if len(both) and name != "probe"
            else None
        )
        recalls = [correct[name][ctx.data.y[where] == c].mean() for c in np.unique(ctx.data.y[where])]
        return (
            RungResult(
                name,
                held_out,
                balanced_held_out=float(np.mean(recalls)) if recalls else None,
                kept=wins,
                p_better=None if comparison is None else comparison.p_better,
                prior_gain=None if info.labels_only else expected.mean,
                gain=gain,
                seconds=seconds,
            ),
            wins,
        )

    def _expected(self, ctx: RungContext, name: RungName) -> Prior:
        if RUNGS[name].info.labels_only:
            return Prior(0.0, 0.05)
        return prior(name, ctx.data.per_class, self.without_prior)

    def _compare(self, ctx: RungContext, name: RungName, best: RungName, expected: Prior) -> Comparison:
        below = self._expected(ctx, best)
        relative = Prior(expected.mean - below.mean, expected.sd)
        where, correct = self.evidence.correct((name, best))
        if not len(where):
            return compare(None, None, relative)
        return compare(correct[name], correct[best], relative, self.weights(ctx, where))

    def _write_decisions(self) -> None:
        write_json(self.run.decisions, self.decisions.to_json())
