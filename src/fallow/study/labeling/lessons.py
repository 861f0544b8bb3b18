"""What a round of labeling teaches the next: from the accepted images it learns what images of one class have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.config import LabelConfig
from fallow.methods import PropagationInputs, find_neighbors, propagate
from fallow.methods.within import whiten_within
from fallow.models import Branch, EmbeddingClassifier, fit_logistic
from fallow.study.candidates import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs, options_of
from fallow.study.labeling.apart import Maker, Rows, in_parts, spreading
from fallow.study.labeling.evidence import HeldOut
from fallow.study.labeling.reliability import Reliability
from fallow.study.labeling.strangers import strangers_of
from fallow.study.labeling.threshold import by_coverage, by_precision
from fallow.study.rung import Fold, ImageSet
from fallow.study.rungs import RUNGS
from fallow.study.strength import inner_parts
from fallow.types import RungName

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lesson:
    """Images of the pool that are taken for labeled ones.

    Attributes:
        rows: Their positions in the pool, (k,).
        guess: Their classes, (k,).
        weight: What each counts in a fit, (k,): the probability that its label is right. A label that was given counts 1.
    """

    rows: NDArray[np.int64]
    guess: NDArray[np.int64]
    weight: Array

    def __len__(self) -> int:
        return len(self.rows)


def accepted(config: LabelConfig, reliability: Reliability, probs: NDArray[np.floating], may: Rows) -> Lesson:
    """Return what is accepted at the precision or coverage that was asked for, by estimate (a certificate is for the last round).

    Args:
        config: What was asked for.
        reliability: How often such answers are right.
        probs: What is said of the pool, (pool, classes).
        may: Pool images that may be accepted at all, (pool,).
    """
    probability, target = reliability.probability(probs), config.target
    if target is not None:
        choice = by_precision(probability, may, target)
    else:
        assert config.coverage is not None
        choice = by_coverage(probability, may, config.coverage)
    rows = np.flatnonzero(choice.accepted)
    return Lesson(rows, probs[rows].argmax(1), probability[rows].astype(np.float32))


def learning(ctx: RungContext, inputs: FrozenInputs, lesson: Lesson) -> Maker:
    """Return what spreads the labels anew, over neighbors as a lesson says that they are.

    The accepted images are no seeds of the spreading: what is wrong among them would be spread, too. They tell, with the labels,
    in which directions images of one class differ, and in a metric in which these count less more neighbors are of one class.
    Tried on development draws against seeds, hard and soft, and a head refitted on labels and accepted images
    (`benchmarks/README.md`).
    """
    options, classes = options_of(ctx), ctx.data.classes

    def make(labels: Rows, pool: Rows) -> EmbeddingClassifier:
        stay, count = pool[lesson.rows], int(labels.sum())
        y = inputs.labels[: len(labels)][labels]
        rows = np.concatenate([np.arange(count), count + np.cumsum(pool)[lesson.rows[stay]] - 1])
        taught = np.concatenate([y, lesson.guess[stay]])
        weight = np.concatenate([np.ones(count), lesson.weight[stay]])
        mapped, lists = [], []
        for space in inputs.spaces:
            feature_map, own = inputs.known(space)
            features = np.concatenate([own[labels], inputs.apart(space)[1][pool]])
            near = whiten_within(features, rows, taught, weight)
            mapped.append((feature_map, features))
            lists.append(find_neighbors(near, options.neighbors, seed=ctx.config.seed))
        known = np.concatenate([y, np.full(int(pool.sum()), -1, np.int64)])
        branches = []
        for number, (space, (feature_map, features)) in enumerate(zip(inputs.spaces, mapped, strict=True)):
            turn = (*lists[number:], *lists[:number])
            carrier = PropagationInputs(feature_map, features, turn, pool_only=True)
            branches.append(Branch(space, feature_map, propagate(carrier, known, len(classes), options).head))
        return EmbeddingClassifier(branches, classes)

    return make


def first(ctx: RungContext, inputs: FrozenInputs, best: RungName) -> Maker:
    """Return what the first round fits: the chosen cheap rung."""
    return labels_only(ctx, inputs) if RUNGS[best].info.labels_only else spreading(ctx, inputs)


def labels_only(ctx: RungContext, inputs: FrozenInputs) -> Maker:
    """Return what fits a head on the labels alone."""

    def make(labels: Rows, pool: Rows) -> EmbeddingClassifier:
        y, branches = inputs.labels[: len(labels)][labels], []
        for space in inputs.spaces:
            feature_map, own = inputs.known(space)
            head = fit_logistic(own[labels], y, n_classes=len(ctx.data.classes))
            branches.append(Branch(space, feature_map, head))
        return EmbeddingClassifier(branches, ctx.data.classes)

    return make


def inner_evidence(ctx: RungContext, fold: Fold) -> list[NDArray[np.int64]]:
    """Return which of the labels that a fold may see are held out inside of it, part by part; none where a class has only one."""
    train = ctx.train_positions(fold)
    return inner_parts(ctx.data.y[train], [ctx.data.groups[i] for i in train], ctx.seed(fold))


def held_out_rounds(
    ctx: RungContext, best: RungName, fold: Fold, config: LabelConfig
) -> Iterator[NDArray[np.float32]]:
    """Label the pool round by round with the labels of one fold alone, and yield what each further round says of its held-out ones.

    Everything that a round is made of is the fold's own: which images are accepted, as what, and at which threshold. How sure is
    sure enough is measured inside the fold, on labels that its own models left out. So no held-out label has any part in what is
    said of it.

    Args:
        ctx: Data and vectors.
        best: The rung of the first round.
        fold: Which labels are held out.
        config: What was asked for.

    Yields:
        Uncalibrated probabilities (held out, classes) of the second round, the third, and so on; each is computed when it is asked for.
    """
    inputs, train = FrozenInputs(ctx, fold), ctx.train_positions(fold)
    y, parts = ctx.data.y[train], inner_evidence(ctx, fold)
    everyone, whole = np.ones(len(y), bool), np.ones(len(ctx.pool), bool)
    share = 1.0 - float(np.mean([len(part) for part in parts])) / len(y)
    make = first(ctx, inputs, best)
    inner = [make] * len(parts)
    while True:
        models = [
            FrozenCandidate(one(_without(everyone, part), whole), ctx.bank)
            for one, part in zip(inner, parts, strict=True)
        ]
        said = [model.probs(_images(ctx, train[part])) for model, part in zip(models, parts, strict=True)]
        evidence = HeldOut(np.concatenate(parts), np.concatenate(said).astype(np.float64), y, share)
        lesson, may = _lesson(ctx, inputs, config, evidence, make, everyone)
        make = learning(ctx, inputs, lesson)
        yield FrozenCandidate(make(everyone, whole), ctx.bank).probs(_images(ctx, fold.held_out))
        inner = [
            learning(ctx, inputs, _as_many(model.probs(ctx.pool, "pool"), may, lesson)) for model in models
        ]


def _lesson(
    ctx: RungContext,
    inputs: FrozenInputs,
    config: LabelConfig,
    evidence: HeldOut,
    make: Maker,
    everyone: Rows,
) -> tuple[Lesson, Rows]:
    """Return what a fold accepts of the pool, each image named by a model made without it, and what it might accept at all."""
    temperature = evidence.temperature()
    reliability = Reliability.fit(evidence.tempered(temperature))
    said = in_parts(ctx, lambda stay: make(everyone, stay), temperature)
    strange = strangers_of(inputs, evidence.y, config.foreign, said.mean(0, dtype=np.float64))
    may = ~strange.foreign & ~strange.edge
    return accepted(config, reliability, said, may), may


def _as_many(probs: NDArray[np.float32], may: Rows, lesson: Lesson) -> Lesson:
    """Return as long a lesson of another model's answers, its surest ones, as sure as those of the lesson are."""
    rows = np.flatnonzero(may)
    rows = rows[np.argsort(-probs[rows].max(1), kind="stable")][: len(lesson)]
    return Lesson(rows, probs[rows].argmax(1), np.sort(lesson.weight)[::-1])


def _without(rows: Rows, part: NDArray[np.int64]) -> Rows:
    kept = rows.copy()
    kept[part] = False
    return kept


def _images(ctx: RungContext, positions: Sequence[int] | NDArray[np.int64]) -> ImageSet:
    return ctx.data.images(tuple(ctx.data.labeled_ids[i] for i in positions))
