"""After the climb: fix the choice, then read the test split once, and leave everything a person needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fallow.errors import RunError
from fallow.export import load_bundle, save_bundle, write_card
from fallow.record import (
    Decision,
    ExtraUse,
    Interval,
    PoolUse,
    RunDir,
    RungResult,
    Scored,
    StudyResult,
    Waterfall,
    WaterfallBar,
    note_elapsed,
    read_json,
    write_json,
)
from fallow.record.rundir import write_bytes
from fallow.report import write_report
from fallow.report.words import plural
from fallow.study.candidates import FrozenCandidate
from fallow.study.card import model_card
from fallow.study.choose import accuracy_interval, claims, corrected_for_choice, gain_interval
from fallow.study.clock import TOLERANCE
from fallow.study.context import RungContext
from fallow.study.extra import WEIGHT
from fallow.study.replay import config_text
from fallow.study.reporting import gather_report
from fallow.study.rungs import RUNGS
from fallow.study.scoring import Tested, decide_scoring, score
from fallow.study.stage import Stage, StagePlan
from fallow.study.trained.map_plan import followed_maps
from fallow.study.trained.tune import followed_tuning
from fallow.study.verdict import verdict
from fallow.study.worth import learning_curve, worth_labels
from fallow.types import JsonObject, RungName, Split

if TYPE_CHECKING:
    from fallow.study.ladder import Study


@dataclass(frozen=True)
class Choice:
    """What is fixed, and on disk, before the first test label is read.

    Attributes:
        chosen: The rung that the user gets.
        labels_only: The honest opponent.
        worth: Whether there is time to ask how many labels the unlabeled images were worth.
        scored_by: How the test images are scored.
    """

    chosen: RungName
    labels_only: RungName
    worth: bool
    scored_by: Decision | None

    def to_json(self) -> JsonObject:
        """Return the choice as JSON."""
        return {**vars(self), "scored_by": None if self.scored_by is None else self.scored_by.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Choice:
        """Rebuild a choice."""
        made = data["scored_by"]
        return cls(**{**data, "scored_by": None if made is None else Decision.from_json(made)})


def model_rung(run: RunDir) -> RungName:
    """Return the rung that ``model/`` holds, whole; an empty name where it holds none."""
    try:
        return str(load_bundle(run.model).meta["rung"])
    except (RunError, KeyError):
        return ""


def keep_model(study: Study, ctx: RungContext, name: RungName) -> None:
    """Make ``model/`` the rung called ``name``: from now on a kill leaves it usable."""
    if model_rung(study.run) == name:
        return
    study.screen.stage("export")
    candidate = study.finals[name]
    assert isinstance(candidate, FrozenCandidate)
    scale = ctx.data.audit.scale
    save_bundle(
        study.run.model,
        candidate.classifier,
        candidate.backbones(),
        classes=list(ctx.data.classes),
        task=ctx.task.name,
        card=model_card(study, ctx, name),
        extra={"rung": name, "pixel_scale": None if scale is None else [scale.low, scale.high]},
        cache=ctx.bank.cache / "graphs",
    )


def leave(study: Study, ctx: RungContext, best: RungName) -> StudyResult:
    """Fix the choice, score the test split, and write model, report and figures."""
    keep_model(study, ctx, best)
    choice = _fix(study, ctx, best)
    through = str(choice.scored_by.value) if choice.scored_by else ""
    tested = score(study, ctx, choice.chosen, through, choice.labels_only)
    result = _result(study, ctx, choice, tested)
    # The first card was written when the rung won, before its figures were corrected and weighted.
    write_card(study.run.model, model_card(study, ctx, choice.chosen, result.chosen))
    text = config_text(
        study.config,
        study.decisions,
        study.fingerprint,
        study.plan,
        _stages(study),
        {f"{name}/{key}": step for name, stage in study.stages.items() for key, step in stage.cuts().items()},
        followed_maps(ctx),
        followed_tuning(ctx),
        study.tried,
    )
    write_bytes(study.run.config, text.encode())
    write_json(study.run.decisions, study.decisions.to_json())
    study.screen.stage("report")
    _own_up(study)
    study.notes += _unusable(ctx)
    result = replace(result, notes=tuple(study.notes))
    write_report(study.run.report, gather_report(study, ctx, result, tested))
    result = replace(result, seconds=study.clock.elapsed)
    write_json(study.run.result, result.to_json())
    return result


def _stages(study: Study) -> dict[RungName, StagePlan]:
    """Return what was done of each rung, for a run that follows this one."""
    done = {}
    for index, name in enumerate(study.names, start=1):
        plan = Stage(study.run.stage(index, name)).plan() or StagePlan(0)
        if name in study.finals or plan.skipped:
            done[name] = replace(plan, folds=study.evidence.folds(name))
    return done


def _fix(study: Study, ctx: RungContext, best: RungName) -> Choice:
    """Return the choice, written down; one that was written down before stands."""
    path = study.run.path / "choice.json"
    try:
        choice = Choice.from_json(read_json(path))
    except (RunError, TypeError, KeyError):
        scored_by = decide_scoring(study, ctx) if ctx.data.test_ids else None
        choice = Choice(best, _opponent(study), study.pace.left > 0, scored_by)
        write_json(path, choice.to_json())
        note_elapsed(study.run.path, "choice", study.clock.elapsed)
    if choice.scored_by is not None:
        study.decisions.add(choice.scored_by)
    return choice


def _result(study: Study, ctx: RungContext, choice: Choice, tested: Tested) -> StudyResult:
    """Gather all figures."""
    best, labels_only = choice.chosen, choice.labels_only
    names = _measured_as_widely(study, choice)
    where, correct = study.evidence.correct(names)
    weights = study.weights(where)
    rungs = tuple(_with_test(r, tested) for r in study.results)
    by_name = {r.rung: r for r in rungs}
    shared = names if best != labels_only else (best,)
    opponent, chosen = (_scored(study, by_name[name], shared) for name in (labels_only, best))
    gain = _gain(study, choice, correct, weights) if len(where) else None
    if len(where) and best != labels_only:
        chosen = _corrected(chosen, corrected_for_choice(correct, best, weights, study.config.seed))
    claim = (
        best != labels_only
        and gain is not None
        and claims(correct[best], correct[labels_only], weights, study.config.seed)
    )
    worth, remark = _worth(study, ctx, choice, correct)
    pool_use, extra = _pool_use(study, ctx), _extra_use(study, by_name)
    return StudyResult(
        task=ctx.task.name,
        seed=study.config.seed,
        seconds=study.clock.elapsed,
        counts=ctx.data.counts,
        labels_only=opponent,
        chosen=chosen,
        rungs=rungs,
        claim=claim,
        verdict=verdict(
            ctx.data.counts,
            opponent,
            chosen,
            gain,
            claim,
            worth,
            pool_use,
            mixed=weights is not None,
            unmeasured=ctx.data.unmeasured,
            extra=extra,
        ),
        worth_labels=worth,
        labels_worth_note=remark,
        waterfall=_waterfall(study, rungs, best),
        export_agreement=tested.agreement,
        test_reads=tested.reads,
        pool_use=pool_use,
        unmeasured="" if len(where) else ctx.data.unmeasured,
        extra=extra,
    )


def _corrected(chosen: Scored, held_out: Interval) -> Scored:
    """Return the figures less what comes from having been chosen; the balanced accuracy owes as much to that."""
    assert chosen.held_out is not None
    assert chosen.balanced_held_out is not None
    optimism = chosen.held_out.value - held_out.value
    return replace(chosen, held_out=held_out, balanced_held_out=max(0.0, chosen.balanced_held_out - optimism))


def _measured_as_widely(study: Study, choice: Choice) -> tuple[RungName, ...]:
    """Return the rungs that are compared on the same held-out images.

    Those measured on as many folds as chosen rung and opponent share: a dear rung that saw two folds of twenty must not
    shrink what is said of the others to these two.
    """
    names = tuple(study.finals)
    if choice.chosen == choice.labels_only:
        return names
    least = min(study.evidence.folds(name) for name in (choice.chosen, choice.labels_only))
    return tuple(name for name in names if study.evidence.folds(name) >= least)


def _gain(
    study: Study,
    choice: Choice,
    correct: dict[RungName, NDArray[np.float64]],
    weights: NDArray[np.float64] | None,
) -> Interval | None:
    """Return the paired gain over labels only of the chosen rung, or of the best that lost against it."""
    name, base = choice.chosen, correct[choice.labels_only]
    if name == choice.labels_only:
        lost = [n for n in correct if RUNGS[n].info.needs_pool]
        if not lost:
            return None
        name = max(lost, key=lambda n: float(np.average(correct[n], weights=weights)))
    return gain_interval(correct[name], base, weights, study.config.seed)


def _pool_use(study: Study, ctx: RungContext) -> PoolUse:
    """Say whether a rung learned from the unlabeled images, or why none did."""
    if any(j.info.needs_pool for j in study.judgments):
        return "learned"
    if not study.unlabeled:
        audit = ctx.data.audit
        splits = [item.split for item in audit.skipped] + [item.split for item in audit.leaks]
        return "unusable" if "unlabeled" in splits or audit.pool_twins else "none"
    if not _asked(study):
        return "not asked"
    return "no time then" if study.config.replay.skipped else "no time"


def _extra_use(study: Study, rows: Mapping[RungName, RungResult]) -> ExtraUse | None:
    """Say what became of extra images, by the rung that is about nothing else."""
    made = study.decisions.get(WEIGHT)
    if made is None:
        return None
    return ExtraUse(float(made.value), made.pinned, rows["blend"].gain if "blend" in rows else None)  # type: ignore[arg-type]


def _asked(study: Study) -> bool:
    """Say whether any rung that learns from unlabeled images was asked for."""
    return any(RUNGS[name].info.needs_pool for name in study.config.rung_names)


def _own_up(study: Study) -> None:
    """Say it when the budget cannot be kept: what the run needs at least is known by now."""
    needed = study.clock.elapsed + study.pace.report
    if needed > TOLERANCE * study.config.seconds:
        study.notes.append(
            f"The budget of {study.config.budget} could not be kept: reading, embedding, one fit a rung, export and "
            f"report take about {needed:.0f} s here. Next time the vectors are cached, and it takes less."
        )


def _unusable(ctx: RungContext) -> list[str]:
    """Say it when not one image of a split that was given can be used: the count of skipped files hides that."""
    data, notes = ctx.data, []
    given: tuple[tuple[Split, str, int, str], ...] = (
        ("val", "validation", int(data.in_validation.sum()), "training labels are held out instead"),
        ("test", "test", len(data.test_ids), "there is no test accuracy"),
    )
    for split, name, left, so in given:
        lost = [item for item in data.audit.skipped if item.split == split]
        if lost and not left:
            notes.append(
                f"None of the {plural(len(lost), f'{name} image')} can be used, so that {so}; the first is "
                f"'{lost[0].id}': {lost[0].reason}."
            )
    return notes


def _opponent(study: Study) -> RungName:
    """Return the better of the labels-only rungs on the labels that all of them were asked about.

    The earlier where they are equal; the later, which costs more and knows more, where nothing is held out.
    """
    names = tuple(r.rung for r in study.results if RUNGS[r.rung].info.labels_only)
    where, correct = study.evidence.correct(names)
    if not len(where):
        return names[-1]
    weights = study.weights(where)
    return max(names, key=lambda name: float(np.average(correct[name], weights=weights)))


def _scored(study: Study, row: RungResult, shared: tuple[RungName, ...]) -> Scored:
    """Return a rung's figures on the held-out images that the rungs ``shared`` were all asked about."""
    where, correct = study.evidence.correct(shared)
    if not len(where):
        return Scored(row.rung, None, row.test, None, row.balanced_test)
    y, right = study.evidence.y[where], correct[row.rung]
    balanced = float(np.mean([right[y == c].mean() for c in np.unique(y)]))
    held_out = accuracy_interval(right, study.weights(where))
    return Scored(row.rung, held_out, row.test, balanced, row.balanced_test)


def _with_test(row: RungResult, tested: Tested) -> RungResult:
    if row.rung not in tested.scores:
        return row
    accuracy, balanced = tested.scores[row.rung]
    return replace(row, test=accuracy, balanced_test=balanced)


def _worth(
    study: Study, ctx: RungContext, choice: Choice, correct: dict[RungName, NDArray[np.float64]]
) -> tuple[int | None, str]:
    best, labels_only = choice.chosen, choice.labels_only
    if best == labels_only:
        return 0, "labels alone were chosen"
    if not len(correct[best]):
        return None, "nothing could be held out"
    if not choice.worth:
        return None, "the budget ended before the probe's learning curve could be drawn"
    fit_score = RUNGS["probe"].curve(ctx)  # type: ignore[attr-defined]
    sizes, errors = learning_curve(ctx.data.y, fit_score, study.config.seed)
    wrong = {name: 1 - float(c.mean()) for name, c in correct.items()}
    return worth_labels(len(ctx.data.y), wrong[labels_only], wrong[best], sizes, errors)


def _waterfall(study: Study, rungs: tuple[RungResult, ...], best: RungName) -> Waterfall:
    bars = []
    for row in rungs:
        if row.held_out is None:
            continue
        h = row.held_out
        bars.append(
            WaterfallBar(
                row.rung,
                Interval(1 - h.value, 1 - h.high, 1 - h.low, h.n),
                row.gain,
                row.seconds,
                row.rung == best,
                study.evidence.folds(row.rung),
            )
        )
    return Waterfall(tuple(bars))
