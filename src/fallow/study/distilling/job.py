"""The distillation: read, ask the teacher, choose a student, let it learn, and say what it kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fallow.config import DistillConfig, JointConfig, NetworkConfig, ReplayConfig, TrainConfig, dump_config
from fallow.data import Source, audit, cache_dir, check_trainable
from fallow.engine import check_trackers
from fallow.errors import RunError
from fallow.export import Deployed, load_bundle, quantize, save_bundle
from fallow.record import Decision, DecisionLog, RunDir, note_elapsed, read_json, write_json
from fallow.record.rundir import write_bytes
from fallow.report import LiveLadder
from fallow.study.bank import SpaceBank
from fallow.study.candidates import TrainedCandidate
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.data import StudyData
from fallow.study.distilling.card import student_card
from fallow.study.distilling.learn import StudentRung
from fallow.study.distilling.measure import (
    Ask,
    Kept,
    Said,
    ask_all,
    compare_models,
    set_aside,
    through,
)
from fallow.study.distilling.plan import CALIBRATION, LESSON, Plan, check_time, lesson_plan, reserve
from fallow.study.distilling.student import Student, choose_student
from fallow.study.distilling.teacher import Taught, ask, open_teachers
from fallow.study.latency import Answer, through_graph, time_side_by_side
from fallow.study.outside import OUTPUTS_RULE, OutsideModel
from fallow.study.plan import SpacePlan, as_before, kept_spaces, part_of_pool, plan_spaces
from fallow.study.replay import ELSEWHERE, followed, planned
from fallow.study.rung import ImageSet
from fallow.tasks import classification_task
from fallow.types import JsonObject, Progress

_LATE = 1.5
"""It is ended when it takes this many times what was planned."""
INT8 = "model.int8.onnx"


class Distilling:
    """One distillation.

    Args:
        source: Where images come from.
        given: Who teaches: names of runs and files, torch modules or functions; several are averaged.
        config: What was asked for.
        run: The run directory; what is found there is used, not made again.
        clock: The budget.
        screen: Who watches.
        named: The data as the user named them.

    Attributes:
        teachers: They, opened.
        teacher_ms: What one image takes all teachers, in milliseconds.
    """

    teachers: list[OutsideModel]
    teacher_ms: float

    def __init__(
        self,
        source: Source,
        given: Sequence[Any],
        config: DistillConfig,
        run: RunDir,
        clock: Clock,
        *,
        screen: LiveLadder,
        named: str,
    ) -> None:
        self.source, self.given, self.config, self.run = source, given, config, run
        self.clock, self.screen, self.named = clock, screen, named
        self.decisions = DecisionLog()
        self.notes: list[str] = []

    def go(self) -> JsonObject:
        """Do everything and return the content of ``distill.json``."""
        data = self._read()
        aside, data = set_aside(data)
        bank = SpaceBank(self.config.embed, cache_dir(), self.config.offline, None, self.screen.progress)
        image = data.reader.read(data.labeled_ids[0])
        self.teacher_ms = self._speeds(image, rounds=1)["teacher"]
        self.screen.stage("student")
        student = self._student(data, image, bank.cache / "graphs")
        ctx = self._context(data, bank, student)
        begun = [self.run.path / "taught.safetensors", self.run.path / "lesson.json"]
        if not any(path.is_file() for path in begun):
            after = self._after(data, student, len(aside))
            check_time(self.config, self.clock, len(ctx.pool), self.teacher_ms, after)
        self.screen.stage("teacher")
        taught = self._taught(ctx)
        note_elapsed(self.run.path, "teacher", self.clock.elapsed)
        candidate = self._learned(ctx, taught, student, len(aside))
        self.screen.stage("export")
        self._keep(ctx, candidate, student)
        kept = self._measured(data, aside, image, student, taught.kinds)
        result = self._result(ctx, kept, student)
        self._write_config(student)
        write_json(self.run.decisions, self.decisions.to_json())
        write_json(self.run.path / "distill.json", result)
        return result

    def _read(self) -> StudyData:
        check_trackers(self.config.log.trackers)
        self.screen.stage("read")
        found = audit(self.source, progress=self.screen.progress)
        write_json(self.run.audit, found.to_json())
        check_trainable(found)
        data = StudyData.build(found, self.config.seed, self.decisions)
        data.table.write(self.run.splits)
        self.screen.start(self.named, data.counts)
        self.teachers = open_teachers(self.given, self.config, data.classes, self.named)
        # A teacher knows what it was trained on by heart; what it says of those images is worth learning all the same.
        return replace(data, pool_ids=(*data.pool_ids, *data.labeled_ids))

    def _speeds(
        self, image: NDArray[np.uint8], others: Mapping[str, Answer] | None = None, rounds: int = 3
    ) -> dict[str, float]:
        """Return the milliseconds an image of all teachers together, ``teacher``, and of others."""
        alone = {f"teacher {number}": teacher.alone() for number, teacher in enumerate(self.teachers)}
        timed = time_side_by_side({**alone, **(others or {})}, image, rounds)
        return {"teacher": sum(timed.pop(name) for name in alone), **timed}

    def _taught(self, ctx: RungContext) -> Taught:
        """Return what the teachers say of all images to learn from, and tell what their answers are taken for."""
        path = self.run.path / "taught.safetensors"
        if path.is_file():
            taught = Taught.load(path)
        else:
            features = self.config.distillation.features
            taught = ask(
                self.teachers,
                ctx.pool,
                ctx.data.classes,
                with_features=features,
                progress=self.screen.progress,
            )
            taught.save(path)
        for number, (teacher, kind) in enumerate(zip(self.teachers, taught.kinds, strict=True)):
            ctx.decide(f"teacher.outputs.{number}", kind, OUTPUTS_RULE, evidence={"model": teacher.name})
        return taught

    def _student(self, data: StudyData, image: NDArray[np.uint8], cache: Path) -> Student:
        path = self.run.path / "student.json"
        if path.is_file():
            kept = read_json(path)
            for made in kept["decisions"]:
                self.decisions.add(Decision.from_json(made))
            return Student(**kept["student"])
        known = list(self.decisions)
        student = choose_student(
            self.config,
            side=data.audit.short_side_median,
            classes=data.classes,
            teacher_ms=self.teacher_ms,
            image=image,
            decisions=self.decisions,
            cache=cache,
        )
        made_now = [d.to_json() for d in self.decisions.since(known)]
        write_json(path, {"student": asdict(student), "decisions": made_now})
        return student

    def _context(self, data: StudyData, bank: SpaceBank, student: Student) -> RungContext:
        asked = self.config
        network = NetworkConfig(
            backbone=student.backbone,
            size=student.size,
            weights=asked.network.weights,
            init=asked.network.init,
            trainable=asked.network.trainable,
        )
        config = TrainConfig(
            seed=asked.seed,
            offline=asked.offline,
            embed=asked.embed,
            network=network,
            optimization=asked.optimization,
            augment=asked.augment,
            # What a teacher says of an image of no class is as good to learn from as any.
            joint=JointConfig(foreign="keep"),
            log=asked.log,
            replay=asked.replay,
        )
        self.screen.stage("embed")
        fingerprint = data.fingerprint()
        config = followed(config, fingerprint)
        if asked.replay.data and not config.replay.data:
            self._tell(ELSEWHERE)

        def make() -> SpacePlan:
            again = planned(config)
            if again is not None:
                return as_before(again, self.decisions)
            return plan_spaces(data, bank, self.clock, self.decisions, asked.seed)

        plan = kept_spaces(self.run, fingerprint, self.decisions, make)
        data = part_of_pool(data, plan, asked.seed)
        return RungContext(
            data,
            classification_task(data.classes),
            bank,
            config,
            self.decisions,
            self.clock,
            plan,
            progress=self.screen.progress,
            folder=self.run.path,
            tell=self._tell,
        )

    def _learned(self, ctx: RungContext, taught: Taught, student: Student, aside: int) -> TrainedCandidate:
        """Return the student after its lesson: the kept one, else one that goes on from its last checkpoint."""
        rung, stage = StudentRung(taught, self.config.distillation), self.run.stage(1, "distill")
        path = self.run.path / "lesson.json"
        self.screen.stage("distill")
        if path.is_file():
            plan = Plan(**read_json(path))
        else:
            left = self.clock.left - self._after(ctx.data, student, aside)
            plan = lesson_plan(self.config, ctx, rung, left)
            write_json(path, asdict(plan))
        ctx.workdir = stage / "work"
        ctx.workdir.mkdir(exist_ok=True)
        ctx.stop = self._stop(plan, path)
        try:
            return rung.fit(ctx, None, {}, plan.steps)
        finally:
            ctx.workdir = ctx.stop = None

    def _after(self, data: StudyData, student: Student, aside: int) -> float:
        """Return the seconds that export and measuring will take."""
        return reserve(self.config, student, len(data.test_ids) or aside, self.teacher_ms)

    def _stop(self, plan: Plan, path: Path) -> Callable[[int, float], bool]:
        def stop(step: int, seconds: float) -> bool:
            if plan.cut is not None:
                return step >= plan.cut
            if plan.seconds is None or step == 0 or seconds <= _LATE * plan.seconds:
                return False
            write_json(path, asdict(replace(plan, cut=step)))
            self._tell(
                f"The student was ended at step {step} of {plan.steps}, for the machine was slower than measured."
            )
            return True

        return stop

    def _keep(self, ctx: RungContext, candidate: TrainedCandidate, student: Student) -> None:
        scale = ctx.data.audit.scale
        names = [teacher.name for teacher in self.teachers]
        save_bundle(
            self.run.model,
            candidate.classifier,
            candidate.backbones(),
            classes=list(ctx.data.classes),
            task=ctx.task.name,
            card=student_card(ctx, student, names),
            extra={"rung": "distill", "pixel_scale": None if scale is None else [scale.low, scale.high]},
            cache=ctx.bank.cache / "graphs",
        )
        if self.config.no_int8:
            return
        reader = ctx.data.reader
        ids = ctx.data.pool_ids[:: max(1, len(ctx.data.pool_ids) // CALIBRATION)][:CALIBRATION]
        try:
            quantize(self.run.model / "model.onnx", (reader.read(i) for i in ids), self.run.model / INT8)
        except RunError as error:
            self._tell(f"{str(error)[0].upper()}{str(error)[1:]}.")

    def _measured(
        self,
        data: StudyData,
        aside: tuple[str, ...],
        image: NDArray[np.uint8],
        student: Student,
        kinds: Sequence[str],
    ) -> Kept:
        self.screen.stage("test")
        small = load_bundle(self.run.model)
        models = {"student": small}
        if (self.run.model / INT8).is_file():
            models["int8"] = Deployed(small.directory, small.meta, INT8)
        images = data.images(data.test_ids or aside)
        truth = data.test_classes() if data.test_ids else None

        def teacher(some: ImageSet, progress: Progress) -> Said:
            return ask(self.teachers, some, data.classes, kinds=kinds, progress=progress).probs

        def student_or_int8(name: str, some: ImageSet, progress: Progress) -> Said:
            return through(models[name], some, name, progress)

        asks: dict[str, Ask] = {
            "teacher": teacher,
            **{name: partial(student_or_int8, name) for name in models},
        }
        said = ask_all(asks, images, self.run.test_reads if data.test_ids else None, self.screen.progress)
        files: dict[str, list[Path | None]] = {"teacher": [teacher.file for teacher in self.teachers]}
        files |= {name: [model.path] for name, model in models.items()}
        speeds = self._speeds(image, {name: through_graph(model.path) for name, model in models.items()})
        return compare_models(said, truth, files, speeds, {"student": student.params}, self.config.seed)

    def _result(self, ctx: RungContext, kept: Kept, student: Student) -> JsonObject:
        plan = read_json(self.run.path / "lesson.json")
        return {
            "data": self.named,
            "teachers": [teacher.name for teacher in self.teachers],
            "student": {"network": student.backbone, "size": student.size, "weights": student.params},
            "models": {name: model.to_json() for name, model in kept.models.items()},
            "difference": None if kept.difference is None else asdict(kept.difference),
            "measured_on": kept.on,
            "images": kept.images,
            "learned_from": len(ctx.pool),
            "steps": plan["cut"] or plan["steps"],
            "seconds": round(self.clock.elapsed, 1),
            "seed": self.config.seed,
            "notes": list(self.notes),
        }

    def _write_config(self, student: Student) -> None:
        plan = Plan(**read_json(self.run.path / "lesson.json"))
        values = self.config.model_dump(mode="json")
        values["network"] |= {"student": student.backbone, "size": student.size}
        values["optimization"]["steps"] = plan.steps
        values["latency_ms"] = values["max_params"] = None  # the student that they chose is named
        values["replay"] = ReplayConfig(
            **{name: read_json(self.run.plan)[name] for name in ("data", "spaces")},
            steps={LESSON: plan.steps},
            cuts={} if plan.cut is None else {LESSON: plan.cut},
        ).model_dump()
        write_bytes(self.run.config, dump_config(values).encode())

    def _tell(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.screen.note(sentence)
