"""What is said of the pool, and what was said of held-out labels by the same voice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fallow.errors import DataError
from fallow.record.labels import RoundLabels
from fallow.report.words import plural
from fallow.study.candidates import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.evidence import tempered
from fallow.study.labeling.agreement import by_models, by_views
from fallow.study.labeling.apart import PARTS, said_apart
from fallow.study.labeling.evidence import HeldOut, nothing, together
from fallow.study.labeling.of_runs import evidence_of
from fallow.study.labeling.parts import Kept, mapped
from fallow.study.outside import OUTPUTS_RULE, OutsideModel, RunModel
from fallow.study.rung import ImageSet
from fallow.study.rungs import RUNGS
from fallow.types import RungName

if TYPE_CHECKING:
    from fallow.study.ladder import Study

Floats = NDArray[np.float64]
_POOR = 0.5
"""A model that names fewer of the labels rightly may well be asked wrongly."""


@dataclass(frozen=True, eq=False)
class Answers:
    """A voice on the pool and the evidence on how far it can be trusted.

    Attributes:
        classes: Class names, the order of all probabilities.
        probs: float32 (pool, classes).
        held_out: The same voice on labels that it had not learned from.
        names: Who it is.
        agreed: Shares of views or models that name the same class, (pool,) each.
        notes: What a person should know.
        rounds: What each round brought; empty where one was asked for.
    """

    classes: tuple[str, ...]
    probs: NDArray[np.float32]
    held_out: HeldOut
    names: tuple[str, ...]
    agreed: tuple[Floats | None, ...] = ()
    notes: tuple[str, ...] = field(default=())
    rounds: tuple[RoundLabels, ...] = ()


def of_ladder(study: Study, ctx: RungContext, best: RungName) -> Answers:
    """Return what the chosen cheap rung says: of the pool by heads that did not learn from the image they name."""
    rows = study.evidence.rows(best)
    held_out = HeldOut(rows[0], np.exp(rows[1]), ctx.data.y, _learned(study, len(ctx.data.y)))
    made = study.decisions.get(f"{best}.temperature")
    temperature = float(made.value) if made is not None and isinstance(made.value, float) else 1.0
    final = study.finals[best]
    assert isinstance(final, FrozenCandidate)
    notes = []
    learns_from_pool = not RUNGS[best].info.labels_only
    if learns_from_pool and PARTS * RUNGS[best].estimate(ctx).seconds > max(ctx.clock.left, 5.0):
        notes.append(
            "There was no time to name each image by a model that had not learned from it: the labels are surer of themselves than "
            "they ought to be."
        )
        learns_from_pool = False
    probs = said_apart(ctx, temperature) if learns_from_pool else final.probs(ctx.pool, "pool")
    agreed = by_views(ctx, final, probs.argmax(1))
    return Answers(
        ctx.data.classes,
        probs,
        held_out.tempered(temperature),
        (f"fallow's {best}",),
        (agreed,),
        tuple(notes),
    )


def _learned(study: Study, labels: int) -> float:
    if not study.folds or not labels:
        return 1.0
    return 1.0 - float(np.mean([len(fold.held_out) for fold in study.folds])) / labels


def of_models(ctx: RungContext, models: Sequence[OutsideModel], kept: Sequence[Kept]) -> Answers:
    """Return what models from elsewhere say, on average.

    A label that a model may have learned from is no evidence. A run of fallow says what it has learned from: there its answers
    of the time when it held them out count. Of any other model the labels given are taken to be new to it, and that is told.

    Args:
        ctx: Data.
        models: At least one.
        kept: Their answers, all there, in the order of `to_ask`.
    """
    classes = models[0].classes
    own = np.array([classes.index(name) for name in ctx.data.classes], np.int64)
    y = own[ctx.data.y] if len(ctx.data.y) else np.zeros(0, np.int64)
    voices, held, notes = [], [], []
    for number, model in enumerate(models):
        order = [model.classes.index(name) for name in classes]
        labeled, pool = kept[2 * number : 2 * number + 2]
        kind = model.kind(rows for one in (labeled, pool) for _, rows in one)
        raw = [model.probs(rows, kind)[:, order] for _, rows in labeled]
        probs = np.concatenate(raw) if raw else np.zeros((0, len(order)), np.float32)
        ctx.decide(
            f"label.outputs.{number}",
            kind,
            OUTPUTS_RULE,
            evidence={"model": model.name},
        )
        evidence, note = _evidence(model, probs.astype(np.float64), y, ctx.labeled, order)
        temperature = evidence.temperature()
        ctx.decide(
            f"label.temperature.{number}",
            temperature,
            "One temperature for all classes, which minimizes the log-loss on labels that the model had not seen; pulled to 1 where "
            "these are few.",
            evidence={"model": model.name, "labels": evidence.labels},
        )
        held.append(evidence.tempered(temperature))
        voices.append(_Voice(model, pool, kind, order, temperature))
        notes += [note] if note else []
    mean, votes = _averaged(voices)
    return Answers(
        classes, mean, _joined(held), tuple(m.name for m in models), (votes,), tuple(dict.fromkeys(notes))
    )


@dataclass(frozen=True, eq=False)
class _Voice:
    """What one model says of the pool, and how it is read."""

    model: OutsideModel
    pool: Kept
    kind: str
    order: list[int]
    temperature: float

    def probs(self, rows: NDArray[np.float32]) -> Floats:
        return tempered(self.model.probs(rows, self.kind)[:, self.order], self.temperature)


def _averaged(voices: Sequence[_Voice]) -> tuple[NDArray[np.float32], Floats | None]:
    """Return the mean of all voices, (pool, classes), and the share of them that name the same class, (pool,).

    A part at a time goes through the memory; the mean is mapped from the disk.
    """
    first = voices[0].pool
    votes: list[Floats | None] = []

    def means() -> Iterator[NDArray[np.float32]]:
        for parts in zip(*(voice.pool for voice in voices), strict=True):
            said = [voice.probs(rows) for voice, (_, rows) in zip(voices, parts, strict=True)]
            mean = np.asarray(np.mean(said, axis=0), np.float32)
            votes.append(by_models([one.argmax(1) for one in said], mean.argmax(1)))
            yield mean

    shape = (len(first.images), len(voices[0].order))
    mean = mapped(first.folder.parent / "probabilities.npy", shape, means())
    there = [one for one in votes if one is not None]
    return mean, np.concatenate(there) if there else None


def _joined(held: Sequence[HeldOut]) -> HeldOut:
    """Join the evidence of several models. Runs bring labels of their own, which the others were not asked about."""
    if len(held) == 1:
        return held[0]
    labels = min(len(one.y) for one in held)  # those of the data come first
    return together(
        [
            replace(
                one,
                where=one.where[one.where < labels],
                probs=one.probs[one.where < labels],
                y=one.y[:labels],
            )
            for one in held
        ]
    )


def _evidence(
    model: OutsideModel, probs: Floats, y: NDArray[np.int64], labeled: ImageSet, order: list[int]
) -> tuple[HeldOut, str]:
    """Return what a model said of labels that it had not learned from, and what a person should know of it."""
    ours = isinstance(model, RunModel)
    fresh = HeldOut(np.arange(len(y)), probs, y, calibrated=ours) if len(y) else nothing(y, len(order), ours)
    found = evidence_of(model.path, len(order)) if isinstance(model, RunModel) else None
    if found is None:
        return fresh, _of_strangers(model, fresh)
    new = np.flatnonzero([h not in found.known for h in labeled.pixel_hashes])
    # Images of the run that are in the data, too, keep their place there; others follow.
    place = {h: row for row, h in enumerate(labeled.pixel_hashes)}
    spots = np.array([place.setdefault(h, len(place)) for h in found.hashes], np.int64)
    classes = np.zeros(len(place), np.int64)
    classes[spots] = np.argsort(order)[found.y]  # the run's own class numbers -> the common ones
    classes[: len(y)] = y
    seen = HeldOut(
        np.concatenate([new, spots[found.image]]),
        np.concatenate([probs[new], found.probs[:, order]]),
        classes,
        found.learned if len(found.image) else 1.0,
    )
    if seen.labels:
        return seen, ""
    return seen, (
        f"Labels that '{model.name}' was trained on are no evidence, and it had held out none: how good its labels are cannot be told."
    )


def _of_strangers(model: OutsideModel, fresh: HeldOut) -> str:
    """Return what a person should know of a model that nobody knows the labels of."""
    if not fresh.labels:
        return ""
    right = int(fresh.right.sum())
    if right < _POOR * fresh.labels:
        return (
            f"'{model.name}' names {right} of {plural(fresh.labels, 'label')} rightly: check the order of its classes (--classes) and "
            "how it is fed (--set input.mean, input.std and input.size)."
        )
    return f"The labels given are taken to be new to '{model.name}': if it was trained on them its labels are worse than stated."


def check_classes(models: Sequence[OutsideModel], known: tuple[str, ...]) -> None:
    """Make sure that models know the same classes, those of the labels among them.

    Raises:
        DataError: They do not.
    """
    first = models[0]
    for other in models[1:]:
        if set(other.classes) != set(first.classes):
            raise DataError(
                f"'{first.name}' and '{other.name}' know different classes ({', '.join(sorted(set(first.classes) ^ set(other.classes))[:5])}): "
                "label with models of the same classes"
            )
    if missing := [name for name in known if name not in first.classes]:
        raise DataError(
            f"the class '{missing[0]}' of the labels given is none of '{first.name}' ({', '.join(first.classes[:8])}): name its classes with "
            "--classes FILE, or take these labels out"
        )
