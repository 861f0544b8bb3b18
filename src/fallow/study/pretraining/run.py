"""The story of one run: read, judge the start, plan, learn, judge again, leave."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fallow.config import EmbedConfig, PretrainConfig
from fallow.data import Source, audit, cache_dir, read_pixels
from fallow.engine import Diverged, Loop, Outcome, Place, check_trackers
from fallow.errors import RunError
from fallow.models import (
    Backbone,
    Network,
    Preprocess,
    from_backbone,
    rebuild_backbone,
    to_backbone,
    token_info,
)
from fallow.record import DecisionLog, RunDir, note_elapsed, write_json
from fallow.record.pretrained import PretrainRecord
from fallow.report import LiveLadder
from fallow.study.bank import SpaceBank
from fallow.study.clock import Clock
from fallow.study.memory import memory_enough
from fallow.study.plan import recall_plan
from fallow.study.pretraining.data import PretrainData
from fallow.study.pretraining.extent import Extent
from fallow.study.pretraining.fit import Lesson, Look, note_seconds, seconds_before
from fallow.study.pretraining.judge import AFTER, BEFORE, Judge
from fallow.study.pretraining.leave import leave
from fallow.study.pretraining.pace import Pace
from fallow.study.pretraining.plan import Planner, PretrainPlan
from fallow.study.pretraining.teacher import known_of, plan_teacher
from fallow.study.stage import Stage

_FIT, _TIMED = "pretrain", 1000
_EXPORT_SECONDS = 8.0
"""What writing the model takes, tracing its graph above all."""
_LATE = 1.05
"""The training is cut when it takes this many times what was planned for it."""
_JUDGING = 0.08
"""Share of the time left that looking at images before the training may take, and fitting probes; after it the same."""
_LOOK_LEAST, _LOOK_SHARE = 30.0, 0.05
"""Seconds between two looks at the network, at least and as a share of the budget."""
_NOTED = 30.0


class Pretraining:
    """One run of `fallow pretrain`.

    Args:
        source: Where images come from.
        config: What was asked for.
        run: The run directory; what is found there is used, not made again.
        clock: The budget.
        own: The user's own network.
        screen: Who watches.
        named: The data as the user named them.
    """

    def __init__(
        self,
        source: Source,
        config: PretrainConfig,
        run: RunDir,
        clock: Clock,
        *,
        own: Backbone | None = None,
        screen: LiveLadder | None = None,
        named: str = "",
    ) -> None:
        self.source, self.config, self.run, self.clock, self.own = source, config, run, clock, own
        self.screen = screen or LiveLadder(enabled=False)
        self.named = named
        self.decisions = DecisionLog()
        self.notes: list[str] = []
        self.stage = Stage(run.stage(1, _FIT))
        self._began = time.monotonic()

    def do(self) -> PretrainRecord:
        """Do everything and return what was measured; the run directory then holds the backbone and every figure.

        Raises:
            RunError: Training broke down, or memory ran out.
        """
        try:
            return self._do()
        except Diverged as error:
            raise RunError(f"learning from images alone broke down: {error}") from error

    def _do(self) -> PretrainRecord:
        data = self._read()
        self.bank = self._bank()
        planner = Planner(data, self.config, self.bank, self.decisions)
        kept = self._kept_plan()
        network = planner.network() if kept is None else kept.network
        start = planner.start(network)
        lesson = self._lesson(network.size)
        self.screen.stage("embed")
        plan = kept
        if plan is None:
            plan = self._unmeasured(planner, network, start, lesson)
        lesson = replace(lesson, known=known_of(self, plan, start))
        size, seed = network.size, self.config.seed
        read, noised = partial(self.pixels, size=size), partial(lesson.noised, plan)
        judge = Judge(data, self.bank.cache, size, seed, lesson.pixels, read, noised, plan.extent)
        seconds = _JUDGING * max(self.clock.left, 0.0)
        settled = kept is not None
        if not settled and self.config.replay.data != data.fingerprint():
            judge.within(start, seconds)
        before = judge.judge(BEFORE, start, math.inf if settled else seconds)
        if not settled:
            self._tell_extent(judge)
            self.screen.progress("measure a step", 0, 0)
            reserve = judge.reserve + _EXPORT_SECONDS
            pace = Pace(planner, start, lesson, lambda: self.clock.left - reserve, self.tell)
            plan = pace.settle(replace(plan, extent=judge.extent))
            self._keep_plan(plan)
        self.screen.stage(_FIT)
        trained, done, seconds, findings = self._trained(plan, start, lesson, judge)
        self.screen.stage("judge")
        after = judge.judge(AFTER, trained)
        return leave(self, plan, judge, start, trained, before, after, done, seconds, findings)

    def _tell_extent(self, judge: Judge) -> None:
        looked, everyone = len(judge.ids), len(self.data.judge_ids)
        if looked < everyone:
            self.tell(
                f"The budget of {self.config.budget} holds judging by {looked:,} of the {everyone:,} labeled images that were held "
                "out for it."
            )

    def _read(self) -> PretrainData:
        check_trackers(self.config.log.trackers)
        self.screen.stage("read")
        found = audit(self.source, progress=self.screen.progress)
        write_json(self.run.audit, found.to_json())
        for decision in found.decisions:
            self.decisions.add(decision)
        self.data = data = PretrainData.build(found, self.config.seed, self.decisions, self.config.method)
        data.table.write(self.run.splits)
        self.screen.start(self.named or found.source.describe(), data.counts)
        if data.left_out and data.classes:
            self.tell(
                f"{len(data.left_out)} classes have one label that could judge and do not take part in judging, such as "
                f"'{data.left_out[0]}'."
            )
        if self.config.replay.data and self.config.replay.data != data.fingerprint():
            self.tell(
                "The config was written by a run on other data: its values are pinned, what its clock settled is not followed."
            )
        return data

    def _bank(self) -> SpaceBank:
        asked = self.config.network
        embed = EmbedConfig(backbone=asked.backbone, weights=asked.weights, size=asked.size)
        return SpaceBank(embed, cache_dir(), self.config.offline, self.own, self.screen.progress)

    def tell(self, sentence: str) -> None:
        """Tell a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.screen.note(sentence)

    def pixels(self, ids: tuple[str, ...], size: int) -> NDArray[np.uint8]:
        """Return images at a size, uint8 (n, s, s, 3)."""
        images = self.data.images(ids)
        return read_pixels(
            images.read,
            images.ids,
            size,
            Preprocess(size).resize,
            folder=self.bank.cache / "pixels",
            key="".join(images.pixel_hashes),
            progress=self.screen.progress,
        )

    def _lesson(self, size: int) -> Lesson:
        gray = self.data.audit.channels == "gray"
        pixels = self.pixels(self.data.pool_ids, size)
        options, taught, screen = dict(self.config.options), self.data.taught, self.screen
        return Lesson(pixels, gray, options, taught, progress=screen.progress, tell=screen.note)

    def _unmeasured(self, planner: Planner, network: Any, start: Backbone, lesson: Lesson) -> PretrainPlan:
        """Return the plan as far as no clock is needed."""
        batch = planner.batch(network)
        shape = from_backbone(start, _nothing(), network.size)
        method = planner.method(network, batch, token_info(shape) is not None)
        settings, teacher = (
            planner.settings(network, method, batch, _TIMED),
            plan_teacher(planner, network, method),
        )
        replay = self.config.replay
        extent = Extent.of(replay.judging) if replay.data == self.data.fingerprint() else Extent()
        plan = PretrainPlan(network, method, settings, planner.flips(), 0.0, teacher, extent)
        lesson.check(start, plan)  # what cannot be made is told before anything is embedded
        return plan

    def _kept_plan(self) -> PretrainPlan | None:
        """Return the plan of the run that goes on: a plan depends on the clock, a result must not."""
        kept = recall_plan(self.run, self.data.fingerprint(), self.decisions)
        if kept is None:
            return None
        for note in kept["notes"]:
            self.tell(note)
        return PretrainPlan.from_json(kept["plan"])

    def _keep_plan(self, plan: PretrainPlan) -> None:
        kept = {
            "data": self.data.fingerprint(),
            "plan": plan.to_json(),
            "decisions": self.decisions.to_json(),
            "notes": list(self.notes),
        }
        write_json(self.run.plan, kept)
        write_json(self.run.decisions, self.decisions.to_json())
        note_elapsed(self.run.path, "plan", self.clock.elapsed)

    def _trained(
        self, plan: PretrainPlan, start: Backbone, lesson: Lesson, judge: Judge
    ) -> tuple[Backbone, int, float, tuple[str, ...]]:
        """Return the trained network, its steps and seconds, and what a person should know; what is on disk is not done again."""
        kept = self.stage.final()
        if kept is not None:
            tensors, meta = kept
            self.stage.clear_workdir(_FIT)
            return (
                self._rebuilt(start, plan, tensors),
                meta["steps"],
                meta["seconds"],
                tuple(meta["findings"]),
            )
        place = Place(self.stage.workdir(_FIT), _FIT, self.config.log.trackers, self.run.path / "trackers")
        spent = seconds_before(place.folder)
        try:
            with memory_enough():
                loop = lesson.loop(start, plan, place)
                outcome = loop.run(self._stop(loop, plan, judge, spent))
        except KeyboardInterrupt:
            note_elapsed(self.run.path, "stopped", self.clock.elapsed)
            note_seconds(place.folder, spent + time.monotonic() - self._began)
            raise
        return self._kept(plan, outcome, spent)

    def _kept(
        self, plan: PretrainPlan, outcome: Outcome, spent: float
    ) -> tuple[Backbone, int, float, tuple[str, ...]]:
        network = outcome.network
        assert isinstance(network, Network)
        backbone = to_backbone(network, f"{_FIT}/{network.like.architecture}")
        tensors = {name: tensor.numpy() for name, tensor in backbone.module.state_dict().items()}
        findings = tuple(found.sentence for found in outcome.findings)
        seconds = spent + outcome.seconds
        meta = {"steps": outcome.steps, "seconds": seconds, "findings": list(findings)}
        self.stage.keep_final(tensors, meta, {"seconds": seconds, "elapsed": self.clock.elapsed})
        self.stage.clear_workdir(_FIT)
        return backbone, outcome.steps, seconds, findings

    def _rebuilt(self, start: Backbone, plan: PretrainPlan, tensors: dict[str, NDArray[Any]]) -> Backbone:
        import torch

        return rebuild_backbone(
            f"{_FIT}/{start.architecture}",
            {name: torch.from_numpy(array) for name, array in tensors.items()},
            architecture=start.architecture,
            size=plan.network.size,
            mean=start.mean,
            std=start.std,
            origin=f"'{self.stage.path}'",
            own=self.own,
        )

    def _stop(self, loop: Loop, plan: PretrainPlan, judge: Judge, spent: float) -> Any:
        """Return what is asked before each step: it looks at the network now and then, and ends the training.

        The end is the step at which it was ended before, or the clock's, when the machine is much slower than measured; it is
        written down before the training ends there, so that a run that goes on, or is done again, ends it there too.
        """
        known = self.stage.cut(_FIT)
        if known is None and self.config.replay.data == self.data.fingerprint():
            known = self.config.replay.cut
            if known is not None:
                self.stage.keep_cut(_FIT, known)
        look = self._look(loop, judge)
        self._began = noted = time.monotonic()
        allowed = _LATE * plan.seconds
        pinned = isinstance(self.config.optimization.steps, int)

        def stop(step: int, seconds: float) -> bool:
            nonlocal noted
            if time.monotonic() - noted > _NOTED:
                noted = time.monotonic()
                note_elapsed(self.run.path, f"step {step}", self.clock.elapsed)
                note_seconds(loop.place.folder if loop.place else None, spent + seconds)
            look(loop, step)
            if known is not None:
                return step >= known
            if pinned or not step or spent + seconds <= allowed:
                return False
            self.stage.keep_cut(_FIT, step)
            return True

        return stop

    def _look(self, loop: Loop, judge: Judge) -> Look:
        every = max(_LOOK_LEAST, _LOOK_SHARE * self.config.seconds)

        def tell(words: str) -> None:
            loop.title = f"{_FIT}: {words}"
            self.screen.line(f"{_FIT}: {words}")

        return Look.of(judge, every, self.run.path / "looks.jsonl", tell)


def _nothing() -> Any:
    from torch import nn

    return nn.Identity()
