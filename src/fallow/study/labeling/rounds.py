"""Labeling again with what was accepted, as long as held-out labels say that it gets better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fallow.config import LabelConfig
from fallow.record import Decision
from fallow.record.labels import RoundLabels
from fallow.study.candidates import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs
from fallow.study.judge import Judgment
from fallow.study.labeling.agreement import by_views
from fallow.study.labeling.answers import Answers
from fallow.study.labeling.apart import PARTS, in_parts
from fallow.study.labeling.drift import Round, better, line, optimism
from fallow.study.labeling.evidence import HeldOut
from fallow.study.labeling.lessons import Lesson, held_out_rounds, inner_evidence, learning
from fallow.study.labeling.strangers import strangers_of
from fallow.study.leave import keep_model
from fallow.study.rung import Fold, RungInfo
from fallow.study.rungs import RUNGS
from fallow.study.stage import Stage, StagePlan
from fallow.types import RungName

if TYPE_CHECKING:
    from fallow.study.ladder import Study

_FIT = 2.0
"""Seconds of a fit of a further round, in those of propagation: it also lists neighbors anew."""
_RULE = (
    "A further round learns from labels and accepted images. It is kept if what held-out labels say of it, beside what such rounds gained on other "
    "data, is that it names no fewer of them rightly, neither of all nor of the surest, and if more is accepted (at a given coverage: more "
    "of it is right); else the round before is what counts."
)


@dataclass(frozen=True, eq=False)
class Rounds:
    """The rounds that were looked at.

    Attributes:
        made: The rounds, the first one first.
        told: Whether each was kept, and why.
    """

    made: list[Round]
    told: list[tuple[bool, str]]

    @property
    def kept(self) -> int:
        """The number of the last round that was kept, from 0."""
        return max(number for number, (kept, _) in enumerate(self.told) if kept)


def further_rounds(
    study: Study, ctx: RungContext, best: RungName, config: LabelConfig, answers: Answers
) -> Answers:
    """Return the answers of the last round that was kept; ``answers`` are those of the first, which ``best`` gave.

    All rounds were measured on the same held-out labels: what choosing among them flatters is taken off the stated precision, and a
    certificate is given at a level at which those of all rounds would hold together.
    """
    found = look(study, ctx, best, config, answers)
    return answers if found is None else ended(study, ctx, config, found)


def look(
    study: Study, ctx: RungContext, best: RungName, config: LabelConfig, answers: Answers
) -> Rounds | None:
    """Label, learn from what was accepted and label again, until a round is no better or as many were made as were asked for.

    Returns:
        The rounds; None where there are too few labels, or too little time, for any further one: that is told, and stays so.
    """
    folds = [fold for fold in study.folds if fold.repeat == 0][: study.evidence.folds(best)]
    plan = _plan(study, ctx, best, config, folds)
    if plan.skipped:
        study.heed(plan)
        return None
    found = Rounds([_first(study, ctx, best, config, answers, folds)], [(True, "made of the labels given")])
    going = {fold.key: enumerate(held_out_rounds(ctx, best, fold, config), 2) for fold in folds}
    for number in range(2, config.rounds + 1):
        last = found.made[-1]
        lesson, _ = last.accepted()
        if not len(lesson):
            break
        _measure(study, ctx, folds, number, going)
        found.made.append(_learned(study, ctx, best, config, number, lesson))
        found.told.append(better(found.made[-1], last))
        study.judgments.append(Judgment(_info(number), found.told[-1][0], None, None, 0.0))
        if not found.told[-1][0]:
            break
    for fold in folds:
        ctx.drop_scratch(fold)
    return found


def ended(study: Study, ctx: RungContext, config: LabelConfig, found: Rounds) -> Answers:
    """Return the answers of the round that was kept with what is told of all, and keep its model."""
    rounds, kept = found.made, found.made[found.kept]
    flattered = optimism(rounds, kept)
    lines = [
        line(n, one, *said, flattered)
        for n, (one, said) in enumerate(zip(rounds, found.told, strict=True), 1)
    ]
    if len(lines) == 1:
        nothing = "nothing was accepted, so that there is nothing to learn from"
        lines.append(RoundLabels(2, 0, None, None, False, nothing))
    if not lines[-1].kept:
        lines[-1] = replace(lines[-1], why=f"{lines[-1].why}; round {found.kept + 1} is what you have")
    ctx.decide(
        "label.round",
        found.kept + 1,
        _RULE,
        evidence={
            "asked": config.rounds,
            "errors_as_seen_times": round(flattered, 4),
            **{f"round {one.number}": one.why for one in lines},
        },
    )
    held_out = replace(kept.answers.held_out, optimism=flattered, looks=config.rounds)
    made = replace(kept.answers, held_out=held_out, rounds=tuple(lines))
    if not found.kept:
        return made
    study.evidence.write(study.run.path / "out_of_fold.parquet")
    keep_model(study, ctx, kept.name)
    final = study.finals[kept.name]
    assert isinstance(final, FrozenCandidate)
    return replace(made, agreed=(by_views(ctx, final, made.probs.argmax(1)),))


def _first(
    study: Study,
    ctx: RungContext,
    best: RungName,
    config: LabelConfig,
    answers: Answers,
    folds: Sequence[Fold],
) -> Round:
    """Return the first round, compared on the folds on which further rounds were measured: those that came first."""
    count = sum(len(fold.held_out) for fold in folds)
    where, logs = study.evidence.rows(best)
    compared = HeldOut(where[:count], np.exp(logs[:count]), ctx.data.y, answers.held_out.learned)
    return _of(ctx, best, config, answers, compared.tempered(compared.temperature()))


def _learned(
    study: Study, ctx: RungContext, best: RungName, config: LabelConfig, number: int, lesson: Lesson
) -> Round:
    """Return a round that learns from the lesson of the one before."""
    name, inputs = _name(number), FrozenInputs(ctx, None)
    where, logs = study.evidence.rows(name)
    learned = 1.0 - len(where) / study.evidence.folds(name) / len(ctx.data.y)
    held_out = HeldOut(where, np.exp(logs), ctx.data.y, learned)
    temperature = held_out.temperature()
    study.evidence.calibrate(name, temperature)
    ctx.decide(
        f"{name}.temperature",
        temperature,
        "One temperature for all classes, which minimizes the log-loss on held-out labels; pulled to 1 where these are few.",
        evidence={"labels": held_out.labels, "lesson": len(lesson)},
    )
    make, everyone = learning(ctx, inputs, lesson), np.ones(len(ctx.data.y), bool)
    study.screen.stage(name)
    study.fitted[name] = FrozenCandidate(make(everyone, np.ones(len(ctx.pool), bool)), ctx.bank)
    study.finals[name] = study.fitted[name].calibrated(temperature)
    said = in_parts(ctx, lambda stay: make(everyone, stay), temperature)
    held_out = held_out.tempered(temperature)
    answers = Answers(ctx.data.classes, said, held_out, (f"fallow's {best}, round {number}",))
    return _of(ctx, name, config, answers, held_out)


def _of(ctx: RungContext, name: RungName, config: LabelConfig, answers: Answers, compared: HeldOut) -> Round:
    mix = answers.probs.mean(0, dtype=np.float64)
    strange = strangers_of(FrozenInputs(ctx, None), ctx.data.y, config.foreign, mix)
    return Round(name, answers, compared, ~strange.foreign & ~strange.edge, config)


def _measure(
    study: Study,
    ctx: RungContext,
    folds: Sequence[Fold],
    number: int,
    going: Mapping[str, Iterator[tuple[int, NDArray[np.float32]]]],
) -> None:
    """Measure a round on held-out labels; what is on disk is not done again.

    Args:
        study: The run.
        ctx: Its data.
        folds: On which labels are held out: the first deal of them.
        number: Which round.
        going: What each fold's rounds say of its held-out labels, by fold: as far as they were computed, they go on from there.
    """
    name, stage = _name(number), _stage(study, number)
    study.screen.stage(name)
    for position, fold in enumerate(folds):
        said = stage.fold(fold.key, fold.held_out)
        if said is None:
            ctx.progress(f"round {number}: held-out labels", position, len(folds))
            started = monotonic()
            said = next(probs for at, probs in going[fold.key] if at == number)
            told = {"seconds": monotonic() - started, "elapsed": ctx.clock.elapsed}
            stage.keep_fold(fold.key, fold.held_out, said, told)
        study.evidence.add(name, fold.key, fold.held_out, said)


def _plan(
    study: Study, ctx: RungContext, best: RungName, config: LabelConfig, folds: Sequence[Fold]
) -> StagePlan:
    """Return whether further rounds are looked at: decided once, then a fact."""
    stage = _stage(study, 2)
    if (plan := stage.plan()) is not None:
        return plan
    inner = [len(inner_evidence(ctx, fold)) for fold in folds]
    fits = sum(parts + PARTS + 1 for parts in inner) + PARTS + 1
    seconds = _FIT * fits * RUNGS["propagate"].estimate(ctx).seconds
    why = ""
    if not inner or min(inner) < 2:
        why = "it takes three labels in every class to measure one"
    elif seconds > ctx.clock.left:
        why = f"it needs about {seconds:.0f} s and {max(ctx.clock.left, 0.0):.0f} s were left"
    note = f"No further round of labeling was looked at: {why}. Round 1 is what you have." if why else ""
    made = Decision("label.round", 1, "rule", note, {"asked": config.rounds}) if why else None
    plan = StagePlan(len(folds), skipped=bool(why), note=note, decision=made)
    stage.keep_plan(plan)
    return plan


def _stage(study: Study, number: int) -> Stage:
    return Stage(study.run.stage(len(study.names) + number - 1, _name(number)))


def _name(number: int) -> RungName:
    return f"round-{number}"


def _info(number: int) -> RungInfo:
    return RungInfo(
        _name(number), "labels and accepted images", cheap=True, labels_only=False, needs_pool=True
    )
