"""From data and models to labels of the pool with a verdict each, and how good those that were accepted are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fallow.config import LabelConfig
from fallow.data import Source, audit, cache_dir, check_images, check_trainable
from fallow.errors import DataError
from fallow.export.labels import LabelSet, label_set
from fallow.record import Decision, DecisionLog, Interval, RunDir, write_json
from fallow.record.labels import ClassLabels, LabelSummary, PoolLabels
from fallow.report import LiveLadder
from fallow.report.words import percent, plural
from fallow.study.bank import SpaceBank
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.data import StudyData
from fallow.study.labeling.agreement import agreement, by_neighbors
from fallow.study.labeling.answers import Answers, check_classes, of_ladder, of_models
from fallow.study.labeling.company import Company
from fallow.study.labeling.evidence import image_weights
from fallow.study.labeling.parts import answer_all, make_plan, to_ask
from fallow.study.labeling.reliability import Reliability
from fallow.study.labeling.rounds import further_rounds
from fallow.study.labeling.strangers import Strangers, find_strangers
from fallow.study.labeling.threshold import Choice, by_certificate, by_coverage, by_precision
from fallow.study.ladder import Study
from fallow.study.outside import open_model
from fallow.study.plan import plan_spaces
from fallow.tasks import classification_task

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Labeled:
    """What came out.

    Attributes:
        labels: The pool's labels beside those given, ready to be written.
        summary: The content of ``label.json``.
        decisions: What was decided.
    """

    labels: LabelSet
    summary: LabelSummary
    decisions: tuple[Decision, ...] = ()


def label_pool(
    source: Source,
    config: LabelConfig,
    run: RunDir,
    clock: Clock,
    models: Sequence[Any] = (),
    *,
    screen: LiveLadder | None = None,
    named: str = "",
    without_prior: str | None = None,
    company: Company | None = None,
) -> Labeled:
    """Label the pool of a data set; no test image is looked at.

    Args:
        source: Where images come from.
        config: What was asked for.
        run: Where everything is kept; what is found there is not made again.
        clock: The budget.
        models: Who names the images; nobody: the cheap rungs of the ladder, made of the labels given.
        screen: Who watches.
        named: The data as the user named them.
        without_prior: A data set whose rows the chooser's prior leaves out (for benchmarks on that data set).
        company: Other processes that answer, too, where models do.

    Raises:
        DataError: There is nothing to label, or nothing to learn from.
    """
    screen = screen or LiveLadder(enabled=False)
    if models:
        ctx = _prepare(source, config, run, clock, screen, named)
        opened = [open_model(model, config, ctx.data.classes) for model in models]
        check_classes(opened, ctx.data.classes)
        make_plan(run, ctx.data.fingerprint(), ctx.data.classes)
        screen.stage("label")
        kept = to_ask(opened, ctx.labeled, ctx.pool, run)
        answer_all(kept, company or Company(run.path), screen.progress, screen.note)
        answers = of_models(ctx, opened, kept)
        decisions = ctx.decisions
    else:
        study = Study(
            source, config.ladder(), run, clock, screen=screen, named=named, without_prior=without_prior
        )
        ctx, best = study.rise()
        _check_pool(ctx)
        screen.stage("label")
        answers = of_ladder(study, ctx, best)
        if config.rounds > 1:
            answers = further_rounds(study, ctx, best, config, answers)
        answers = replace(answers, notes=(*study.notes, *answers.notes))
        decisions = study.decisions
    made = judge(ctx, config, answers)
    write_json(run.decisions, decisions.to_json())
    return made


def _prepare(
    source: Source, config: LabelConfig, run: RunDir, clock: Clock, screen: LiveLadder, named: str
) -> RungContext:
    """Read the data for models from elsewhere. Labels are welcome and not needed."""
    screen.stage("read")
    decisions = DecisionLog()
    found = audit(source, progress=screen.progress)
    write_json(run.audit, found.to_json())
    check_images(found)
    if len(found.given) > 1:
        check_trainable(found)
    for made in found.decisions:
        decisions.add(made)
    data = StudyData.build(found, config.seed, decisions)
    data.table.write(run.splits)
    screen.start(named or source.describe(), data.counts)
    settings = config.ladder()
    if settings.embed.views == "auto":  # vectors only say here what is near to what: one view does
        settings.embed.views = "none"
    bank = SpaceBank(settings.embed, cache_dir(), settings.offline, None, screen.progress)
    plan = plan_spaces(data, bank, clock, decisions, config.seed)
    task = classification_task(data.classes)
    ctx = RungContext(
        data,
        task,
        bank,
        settings,
        decisions,
        clock,
        plan,
        progress=screen.progress,
        folder=run.path,
        tell=screen.note,
    )
    _check_pool(ctx)
    return ctx


def _check_pool(ctx: RungContext) -> None:
    if not len(ctx.pool):
        raise DataError(
            "there are no unlabeled images to label: put them into unlabeled/ beside the class folders, or list them without a label"
        )


def judge(ctx: RungContext, config: LabelConfig, answers: Answers) -> Labeled:
    """Turn answers into labels with a verdict each, and say how good the accepted ones are."""
    guess = answers.probs.argmax(1)
    reliability = Reliability.fit(answers.held_out)
    probability = reliability.probability(answers.probs)
    named = np.array([answers.classes.index(name) for name in ctx.data.classes], np.int64)
    strangers = find_strangers(ctx, config.foreign, answers.probs.mean(0, dtype=np.float64)[named])
    choice = _choose(config, answers, reliability, probability, strangers)
    near = by_neighbors(ctx, guess, named[ctx.data.y]) if len(ctx.data.y) else None
    verdict = np.where(strangers.foreign, 2, np.where(choice.accepted, 0, 1)).astype(np.int8)
    pool = PoolLabels(
        answers.classes,
        tuple(ctx.pool.ids),
        np.asarray(answers.probs, np.float32),
        probability,
        agreement((*answers.agreed, near), len(guess)),
        strangers.score,
        verdict,
    )
    ctx.decide(
        "label.threshold",
        round(choice.threshold, 6),
        "The least probability that was accepted; " + _rule(config),
        pinned=config.coverage is not None,
        evidence={"held_out_labels": answers.held_out.labels, "accepted": int(choice.accepted.sum())},
    )
    if strangers.note:
        answers = replace(answers, notes=(*answers.notes, strangers.note))
    labels = label_set(pool, ctx.data.table, ctx.data.audit.source, ctx.data.reader.read)
    return Labeled(labels, _summary(config, answers, reliability, choice, pool), tuple(ctx.decisions))


def _rule(config: LabelConfig) -> str:
    if config.coverage is not None:
        return "the surest were accepted, as many as were asked for."
    if config.certify:
        return "by fixed-sequence testing with exact binomial bounds on held-out labels."
    return "the mean probability of what is accepted is the precision that was asked for."


def _choose(
    config: LabelConfig,
    answers: Answers,
    reliability: Reliability,
    probability: Floats,
    strangers: Strangers,
) -> Choice:
    may = ~strangers.foreign & ~strangers.edge
    target = config.target
    if target is None:
        assert config.coverage is not None
        return by_coverage(probability, may, config.coverage)
    if not answers.held_out.labels:
        why = (
            "no label could be held out, so that no precision can be promised: give more than one label a class, or --coverage 0.5 to "
            "take the surest half unmeasured"
        )
        return Choice(np.zeros(len(may), bool), 1.0, why)
    if config.certify:
        held = reliability.probability(answers.held_out.probs)
        return by_certificate(
            probability,
            may,
            target,
            answers.held_out,
            held,
            image_weights(answers.held_out, answers.probs, ~strangers.foreign),
        )
    return by_precision(probability, may, target)


def _summary(
    config: LabelConfig, answers: Answers, reliability: Reliability, choice: Choice, pool: PoolLabels
) -> LabelSummary:
    accepted = pool.where("accept")
    measured = bool(answers.held_out.labels)
    asked = (
        {"coverage": config.coverage}
        if config.target is None
        else {"precision": config.target, "certify": config.certify}
    )
    precision = reliability.precision(answers.probs[accepted]) if len(accepted) and measured else None
    return LabelSummary(
        asked=asked,  # type: ignore[arg-type]
        precision=precision,
        coverage=len(accepted) / max(len(pool), 1),
        accepted=len(accepted),
        doubtful=len(pool.where("doubtful")),
        foreign=len(pool.where("foreign")),
        labels=answers.held_out.labels,
        sentence=_sentence(len(accepted), len(pool), precision, choice),
        per_class=_per_class(answers, reliability, pool),
        models=answers.names,
        certified=choice.certified,
        threshold=choice.threshold,
        why=choice.why,
        notes=answers.notes,
        seed=config.seed,
        rounds=answers.rounds,
    )


def _per_class(answers: Answers, reliability: Reliability, pool: PoolLabels) -> dict[str, ClassLabels]:
    held = answers.held_out
    asked = np.bincount(held.y[np.unique(held.where)], minlength=len(answers.classes))
    found = {}
    for number, name in enumerate(answers.classes):
        rows = np.flatnonzero(pool.guess == number)
        mine = rows[pool.verdict[rows] == 0]
        precision = reliability.precision(answers.probs[mine]) if len(mine) and asked.sum() else None
        found[name] = ClassLabels(len(mine), len(rows), int(asked[number]), precision)
    return found


def _sentence(accepted: int, pool: int, precision: Interval | None, choice: Choice) -> str:
    if not accepted:
        return f"None of the {pool:,} unlabeled images was labeled: {choice.why}."
    head = f"{plural(accepted, 'image')} of {pool:,} labeled"
    if precision is None:
        return f"{head}; how many of these labels are right could not be measured."
    share = (
        f"{head}; {percent(precision.value)} of these labels are right by estimate (95 % interval {100 * precision.low:.1f} to "
        f"{100 * precision.high:.1f}, from {plural(precision.n, 'held-out label')})"
    )
    if choice.certified is not None:
        share += f", and at least {percent(choice.certified)} with 95 % confidence"
    return share + (f"; {choice.why}." if choice.why else ".")
