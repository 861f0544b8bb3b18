"""The study: read, embed, climb, choose, leave. Each step is one call to a room below."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fallow.config import TrainConfig
from fallow.data import Source, audit, cache_dir, check_extra, check_trainable, several_in_one
from fallow.engine import check_trackers
from fallow.models import Backbone
from fallow.record import DecisionLog, RunDir, RungResult, StudyResult, note_elapsed, write_json
from fallow.report import LiveLadder
from fallow.study.bank import SpaceBank
from fallow.study.calibrate import calibrate
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.data import StudyData, plan_folds
from fallow.study.effort import Effort, no_time, share_of, unmeasurable
from fallow.study.evidence import OutOfFold
from fallow.study.extra import extra_notes
from fallow.study.fits import Fits, GivenUp
from fallow.study.judge import Judge, Judgment, at_chance, pool_mix, weights_decision
from fallow.study.leave import keep_model, leave, model_rung
from fallow.study.pace import Pace, embed_everything, image_seconds
from fallow.study.plan import SpacePlan, as_before, kept_spaces, part_of_pool, plan_spaces, without_weights
from fallow.study.replay import ELSEWHERE, followed, planned, stage_plan
from fallow.study.rung import Candidate, Rung, Workload
from fallow.study.rungs import RUNGS
from fallow.study.stage import Stage, StagePlan
from fallow.study.trained.checks import check_training
from fallow.study.trained.map_plan import recall_maps
from fallow.study.trained.tune import recall_tuning
from fallow.tasks import classification_task
from fallow.types import RungName

_LEAST_SECONDS = 2.0
"""What measuring a step of training takes at least: with less a trained rung is not looked at."""


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
        named: The data as the user named them, for the screen; the source describes itself where it is left out.

    Attributes:
        decisions: What was decided.
        stages: What each climbed rung left on disk.
        fitted: The refitted candidates as the rungs made them: what higher rungs may start from.
        finals: The same, calibrated: what is exported, tested and shown.
        notes: What a person should know: cuts, mostly.
        unlabeled: Unlabeled images that there are; fewer take part where the budget is short.
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
        named: str = "",
    ) -> None:
        self.source, self.config, self.run, self.clock, self.own = source, config, run, clock, own
        self.screen = screen or LiveLadder(enabled=False)
        self.without_prior, self.named = without_prior, named
        self.decisions = DecisionLog()
        self.stages: dict[RungName, Stage] = {}
        self.fitted: dict[RungName, Candidate] = {}
        self.finals: dict[RungName, Candidate] = {}
        self.notes: list[str] = []
        self.judgments: list[Judgment] = []

    @property
    def results(self) -> tuple[RungResult, ...]:
        """The rows of all finished rungs, every figure by the same measure."""
        return self.judge.results(self.judgments, self.mix)

    @property
    def mix(self) -> NDArray[np.float64] | None:
        """The pool's estimated class shares; None before a rung estimated them."""
        return pool_mix(self.finals)

    def weights(self, where: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return weights that turn the held-out labels' class shares into the pool's, or None where they agree."""
        return self.judge.weights(where, self.mix)

    def climb(self) -> StudyResult:
        """Do everything and return what was measured; the run directory then holds model, report and figures."""
        ctx, best = self.rise()
        return leave(self, ctx, best)

    def rise(self) -> tuple[RungContext, RungName]:
        """Fit and measure every rung and return the context and the rung that was chosen; no test label is read."""
        ctx = self.prepare()
        trains = any(RUNGS[name].workload is not None for name in self.config.rung_names)
        network = check_training(ctx).init if trains else None
        recall_maps(ctx)
        recall_tuning(ctx)
        self.folds = plan_folds(ctx.data, self.config.choose, self.config.seed, self.decisions)
        self.evidence = OutOfFold(ctx.data.labeled_ids, ctx.data.y, len(ctx.data.classes))
        self.judge = Judge(self.evidence, ctx.data.per_class, self.config.seed, self.without_prior, network)
        self.screen.stage("embed")
        embedding = embed_everything(ctx, self.folds)
        note_elapsed(self.run.path, "embedding", self.clock.elapsed)
        self.pace = Pace(self.clock, ctx, embedding, image_seconds(ctx))
        self._write_decisions()
        self.names = tuple(n for n in self.config.rung_names if self._possible(ctx, RUNGS[n]))
        self._tell_of_impossible(ctx)
        best: RungName | None = None
        for index, name in enumerate(self.names, start=1):
            if RUNGS[name].needs and not set(RUNGS[name].needs) & set(self.finals):
                self._tell(
                    f"{name} was skipped: there is none of {', '.join(RUNGS[name].needs)} that it could be made of."
                )
                continue
            stage = Stage(self.run.stage(index, name))
            self.screen.stage(name)
            if self._skipped(ctx, RUNGS[name], stage, best):
                continue
            try:
                best = self._climb_rung(ctx, RUNGS[name], stage, best)
            except GivenUp:
                self._give_up(name, stage)
            self._write_decisions()
        assert best is not None  # the probe always runs
        self.evidence.write(self.run.path / "out_of_fold.parquet")
        return ctx, best

    @property
    def tried(self) -> tuple[RungName, ...]:
        """The rungs asked for, but for those that nobody asked for and this network needs none of."""
        names = self.config.rung_names
        return tuple(n for n in names if n in self.names or not RUNGS[n].info.from_scratch)

    def _possible(self, ctx: RungContext, rung: Rung) -> bool:
        """Say whether there are the images that a rung is about, and unasked, the network."""
        pool, extra = ctx.data.pool_ids or not rung.info.needs_pool, ctx.data.extra_ids
        wanted = self.config.rungs != "auto" or self.judge.network == "scratch" or not rung.info.from_scratch
        return bool(pool) and bool(extra or not rung.info.needs_extra) and wanted

    def _tell_of_impossible(self, ctx: RungContext) -> None:
        """Say why a rung that was asked for is not climbed."""
        for name in self.config.rung_names if self.config.rungs != "auto" else ():
            lacks = "unlabeled images" if RUNGS[name].info.needs_pool and not ctx.data.pool_ids else ""
            if not lacks and RUNGS[name].info.needs_extra and not ctx.data.extra_ids:
                lacks = "labeled images of another origin (--extra DATA)"
            if lacks:
                self._tell(f"{name} was skipped: it learns from {lacks}, and there are none.")

    def prepare(self) -> RungContext:
        """Read the data, plan what is embedded and return what rungs look at; nothing is fitted yet."""
        check_trackers(self.config.log.trackers)
        bank = SpaceBank(self.config.embed, cache_dir(), self.config.offline, self.own, self.screen.progress)
        bank.named()
        self.screen.stage("read")
        found = audit(self.source, progress=self.screen.progress)
        write_json(self.run.audit, found.to_json())
        check_trainable(found)
        check_extra(found)
        for decision in found.decisions:
            self.decisions.add(decision)
        data = StudyData.build(found, self.config.seed, self.decisions)
        data.table.write(self.run.splits)
        self.screen.start(self.named or found.source.describe(), data.counts)
        self.fingerprint = data.fingerprint()
        self._follow()
        bank.config = self.config.embed  # without what was settled for other data
        self.screen.stage("embed")
        self.plan = kept_spaces(self.run, self.fingerprint, self.decisions, lambda: self._plan(data, bank))
        note_elapsed(self.run.path, "plan", self.clock.elapsed)
        if poor := without_weights(self.plan, bank):
            self.notes.append(poor)
        self.notes += [said for said in (several_in_one(found),) if said]
        self.notes += extra_notes(data)
        self.unlabeled = len(data.pool_ids)
        if self.plan.pool < self.unlabeled:
            self.notes.append(
                f"{self.plan.pool:,} of the {self.unlabeled:,} unlabeled images took part: the budget allowed no more."
            )
            data = part_of_pool(data, self.plan, self.config.seed)
        task = classification_task(data.classes)
        return RungContext(
            data,
            task,
            bank,
            self.config,
            self.decisions,
            self.clock,
            self.plan,
            progress=self.screen.progress,
            folder=self.run.path,
            tell=self.screen.note,
        )

    def _follow(self) -> None:
        """Follow the run whose config this is, where the data are the same."""
        asked = self.config.replay.data
        self.config = followed(self.config, self.fingerprint)
        if asked and not self.config.replay.data:
            self.notes.append(ELSEWHERE)

    def _plan(self, data: StudyData, bank: SpaceBank) -> SpacePlan:
        """Plan what to embed, or do as the run did that this one follows."""
        again = planned(self.config)
        if again is not None and (self.own is None or again.backbones == (self.own.name,)):
            return as_before(again, self.decisions)
        return plan_spaces(data, bank, self.clock, self.decisions, self.config.seed)

    def _skipped(self, ctx: RungContext, rung: Rung, stage: Stage, best: RungName | None) -> bool:
        """Say whether a rung is left out for want of time: decided once, then a fact. The probe is never left out."""
        plan = stage.plan()
        name = rung.info.name
        for made in stage.decisions():
            self.decisions.add(made)
        if plan is None and (again := stage_plan(self.config.replay, name)) is not None:
            asked = self.config.optimization.steps
            plan = again if not again.steps or asked == "auto" else replace(again, steps=asked)
            stage.keep_plan(plan)
        if plan is None and best is not None and stage.final() is None:
            known = list(self.decisions)
            plan = (
                self._effort(ctx, rung, best)
                if rung.workload
                else self.pace.skip(name, rung.estimate(ctx).seconds)
            )
            if plan is not None:
                stage.keep_decisions(self.decisions.since(known))
                stage.keep_plan(plan)
        self.pace.owed.pop(name, None)
        if plan is None:
            return False
        if not plan.skipped:
            self.pace.owed[name] = plan.after
        self.heed(plan)
        return plan.skipped

    def _effort(self, ctx: RungContext, rung: Rung, best: RungName) -> StagePlan:
        """Plan steps and folds of a trained rung."""
        assert rung.workload is not None
        name, asked = rung.info.name, self.config.optimization.steps
        if not self.folds and not self.judge.promising(rung.info, best):
            return unmeasurable(name)
        share = share_of(name, self.names)
        if rung.workload.most and share * self.pace.left < _LEAST_SECONDS:
            return no_time(name, share * self.pace.left)
        image = rung.answer(ctx)
        after = self.pace.answers(image)
        if rung.workload.most and (left := self.pace.left - after) < _LEAST_SECONDS:
            return no_time(
                name, left
            )  # measuring a step takes seconds, the first time on a machine tens of them
        parts = self._parts() or 1
        there = min(len(self.folds), parts if parts > 2 else 2 * parts)
        trained = [n for n in self.stages if RUNGS[n].workload is not None]
        there = min([there, *(self.evidence.folds(n) for n in trained)])
        trains = rung.workload.most > 0
        workload = Workload(asked, asked, asked) if trains and asked != "auto" else rung.workload
        cost = rung.estimate(ctx)
        self.pace.owed[name] = after
        seconds = share * self.pace.left
        ahead = rung.prepare(ctx, seconds - cost.once, cost.seconds, workload, self.folds[:there])
        beside = cost.beside + self._beside(rung, image)
        once = cost.once + ahead
        effort = Effort(name, seconds, cost.seconds, workload, there, beside, once, after, rung.shared)
        plan = effort.plan()
        if not plan.skipped or rung.info.labels_only:
            return plan
        # A share that holds nothing is no use to anybody: what rungs above would have had may be enough.
        whole = replace(effort, seconds=self.pace.left).plan()
        return plan if whole.skipped else whole

    def _beside(self, rung: Rung, image: float) -> float:
        """Return what each fit of a trained rung takes for its held-out images, of so many seconds each, and for cheap rungs."""
        held_out = max((len(fold.held_out) for fold in self.folds), default=0) * image
        if rung.info.labels_only:
            return held_out
        cheap = [stage for name, stage in self.stages.items() if RUNGS[name].workload is None]
        return held_out + sum(stage.fold_seconds() for stage in cheap)

    def _give_up(self, name: RungName, stage: Stage) -> None:
        """Leave out a rung whose training broke down, as a run that goes on will."""
        self.evidence.drop(name)
        self.pace.owed.pop(name, None)
        del self.stages[name]
        plan = stage.plan()
        assert plan is not None
        self.heed(plan)

    def _tell(self, sentence: str) -> None:
        """Tell a sentence, once."""
        if sentence and sentence not in self.notes:
            self.notes.append(sentence)
            self.screen.note(sentence)

    def heed(self, plan: StagePlan) -> None:
        """Tell what was cut."""
        self._tell(plan.note)
        if plan.decision is not None:
            self.decisions.add(plan.decision)

    def _climb_rung(self, ctx: RungContext, rung: Rung, stage: Stage, best: RungName | None) -> RungName:
        name = rung.info.name
        self.stages[name] = stage
        before, started = stage.seconds(), time.monotonic()
        fits = Fits(self, ctx, rung, stage)
        note = fits.held_out()
        fitted, fresh = fits.final()
        temperature, decision = calibrate(name, self.evidence, self._parts())
        self.decisions.add(decision)
        self.evidence.calibrate(name, temperature)
        self.fitted[name], self.finals[name] = fitted, fitted.calibrated(temperature)
        if self.mix is not None:
            self.decisions.add(weights_decision(self.mix, ctx.data.y))
        seconds = before + (time.monotonic() - started if fresh else 0.0)
        below = None if best is None else RUNGS[best].info
        made = self.judge.judge(rung.info, below, self.mix, seconds, note)
        self.judgments.append(made)
        for result in self.results:  # a new rung changes the pool mix that all figures are weighted by
            self.screen.rung(result)
        if best is None:
            self._tell(at_chance(self.results[0], ctx.data.y))
        if made.wins and not self._ahead(name):
            keep_model(self, ctx, name)
        return name if made.wins or best is None else best

    def _ahead(self, name: RungName) -> bool:
        """Say whether ``model/`` holds a rung above this one already: a run that goes on does not step back."""
        kept, order = model_rung(self.run), self.config.rung_names
        return kept in order and order.index(kept) > order.index(name)

    def _parts(self) -> int:
        """Return into how many parts the labels were dealt; 0 where a given split was held out, or nothing."""
        made = self.decisions.get("choose.folds")
        return made.value if made is not None and isinstance(made.value, int) else 0

    def _write_decisions(self) -> None:
        write_json(self.run.decisions, self.decisions.to_json())
