"""The study's view of the data: who is labeled, who is pool, and what each fold holds out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fallow.config import ChooseConfig
from fallow.data import Audit, ImageReader, ImageTable, assign_folds, default_folds, limit_validation
from fallow.record import ONE_GROUP, ONE_LABEL, Counts, Decision, DecisionLog, Unmeasured
from fallow.study.rung import Fold, ImageSet

_TARGET_FITS = 20
"""Held-out fits that a cheap rung aims at: few labels need many repeats to be measured at all."""


@dataclass(frozen=True)
class StudyData:
    """Labeled images, pool and test images after the audit.

    Attributes:
        audit: What was found in the data.
        table: The clean table, validation limited.
        reader: Reads images by id.
        classes: Class names, sorted; the order of all probabilities.
        labeled_ids: Training images, then validation images.
        y: Their classes, (n,).
        in_validation: True where an image came from a given validation split, (n,).
        pool_ids: Unlabeled images.
        extra_ids: Labeled images of another origin. They are only ever learned from: never held out or tested on, and in no
            count of labels, no graph and no estimate.
        extra_y: Their classes, (extra,).
    """

    audit: Audit
    table: ImageTable
    reader: ImageReader
    classes: tuple[str, ...]
    labeled_ids: tuple[str, ...]
    y: NDArray[np.int64]
    in_validation: NDArray[np.bool_]
    groups: tuple[str, ...]
    pool_ids: tuple[str, ...]
    test_ids: tuple[str, ...]
    extra_ids: tuple[str, ...] = ()
    extra_y: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def build(cls, audit: Audit, seed: int, decisions: DecisionLog) -> StudyData:
        """Take the audited table apart; a validation split larger than the training labels is cut (recorded)."""
        table, decision = limit_validation(audit.table, seed)
        if decision is not None:
            decisions.add(decision)
        train, val = table.labels("train"), table.labels("val")
        labels = {**train, **val}
        ids = labeled_ids(table)
        classes = tuple(sorted(set(labels.values())))
        index = {name: i for i, name in enumerate(classes)}
        extra = table.labels("extra")
        group = dict(zip(table.images["id"].to_pylist(), table.images["group"].to_pylist(), strict=True))
        return cls(
            audit=audit,
            table=table,
            reader=ImageReader(audit.source, table, audit.scale),
            classes=classes,
            labeled_ids=ids,
            y=np.array([index[labels[i]] for i in ids], np.int64),
            in_validation=np.array([i in val for i in ids], bool),
            groups=tuple(group[i] or i for i in ids),
            pool_ids=tuple(table.ids("unlabeled")),
            test_ids=tuple(sorted(table.labels("test"))),
            extra_ids=tuple(sorted(extra)),
            extra_y=np.array([index[extra[i]] for i in sorted(extra)], np.int64),
        )

    def images(self, ids: tuple[str, ...]) -> ImageSet:
        """Return ``ids`` as images that can be read."""
        return ImageSet(ids, self.table.column("pixel_hash", ids), self.reader.read)

    def test_classes(self) -> NDArray[np.int64]:
        """Return the classes of the test images; called after the choice is final only."""
        labels, index = self.table.labels("test"), {name: i for i, name in enumerate(self.classes)}
        return np.array([index[labels[i]] for i in self.test_ids], np.int64)

    @property
    def per_class(self) -> float:
        """Labels a class, the median over classes."""
        return float(np.median(np.bincount(self.y, minlength=len(self.classes))))

    @property
    def unmeasured(self) -> Unmeasured:
        """Why nothing can be held out, where nothing can."""
        return ONE_LABEL if np.bincount(self.y).min() < 2 else ONE_GROUP

    @property
    def counts(self) -> Counts:
        """How many images of each kind take part."""
        return Counts(
            labeled=len(self.labeled_ids),
            unlabeled=len(self.pool_ids),
            test=len(self.test_ids),
            classes=len(self.classes),
            validation=int(self.in_validation.sum()),
            skipped=len(self.audit.skipped),
            extra=len(self.extra_ids),
        )

    def fingerprint(self) -> str:
        """Return a hash of all that a result depends on, so that a resumed run can tell whether the data changed."""
        digest = hashlib.blake2b(digest_size=16)
        for ids in (self.labeled_ids, self.pool_ids, self.test_ids):
            for name, pixel in zip(ids, self.table.column("pixel_hash", ids), strict=True):
                digest.update(f"{name}\0{pixel}\0".encode(errors="surrogateescape"))
            digest.update(b"\n")
        digest.update("\0".join(self.groups).encode(errors="surrogateescape"))
        digest.update(self.y.tobytes() + self.in_validation.tobytes())
        if self.extra_ids:
            hashes = self.table.column("pixel_hash", self.extra_ids)
            for name, pixel in zip(self.extra_ids, hashes, strict=True):
                digest.update(f"{name}\0{pixel}\0".encode(errors="surrogateescape"))
            digest.update(self.extra_y.tobytes())
        return digest.hexdigest()


def labeled_ids(table: ImageTable) -> tuple[str, ...]:
    """Return the labeled images of a clean table in the study's order: training images, then validation images."""
    return (*sorted(table.labels("train")), *sorted(table.labels("val")))


def plan_folds(data: StudyData, config: ChooseConfig, seed: int, decisions: DecisionLog) -> list[Fold]:
    """Decide how labels are held out and return the folds, repeat by repeat.

    A given validation split is the one thing held out. Otherwise: none with one label in a class, or one group; as many folds as the
    smallest class has labels up to five, repeated until about twenty fits see the light.
    """
    if data.in_validation.any():
        decisions.add(
            Decision(
                "choose.held_out",
                "validation",
                "rule",
                "A validation split was given: rungs are compared on it, and it joins the final refit.",
                {"images": int(data.in_validation.sum())},
            )
        )
        return [Fold(0, 0, np.flatnonzero(data.in_validation))]
    folds = _fold_count(data, config)
    repeats, repeating = _repeats(config, folds)
    assignment = assign_folds(data.y.tolist(), data.groups, folds, repeats, seed)
    made = [
        Fold(r, f, np.flatnonzero(assignment[r] == f))
        for r in range(repeats)
        for f in range(folds)
        if (assignment[r] == f).any()
    ]
    rule = "As many folds as the smallest class has labels, five at most."
    if not made:
        # The same in each repeat: what can be dealt depends on classes and groups alone.
        folds, rule = 0, f"With {data.unmeasured} nothing can be held out."
    pinned = isinstance(config.folds, int)
    smallest = int(np.bincount(data.y).min())
    decisions.add(
        Decision(
            "choose.folds",
            folds,
            "user" if pinned else "rule",
            rule,
            {"smallest_class": smallest},
            pinned=pinned,
        )
    )
    if made:
        decisions.add(repeating)
    return made


def _fold_count(data: StudyData, config: ChooseConfig) -> int:
    """Return into how many parts the labels are dealt; 0 where a class has one label."""
    if not isinstance(config.folds, int):
        return default_folds(data.y.tolist())
    # Asked for or not, a class cannot be held out more often than it has labels.
    folds = min(config.folds, int(np.bincount(data.y).min()))
    return 0 if folds < 2 else folds


def _repeats(config: ChooseConfig, folds: int) -> tuple[int, Decision]:
    """Return how often the labels are dealt anew, and why."""
    pinned = isinstance(config.repeats, int)
    repeats = (
        config.repeats if isinstance(config.repeats, int) else max(2, round(_TARGET_FITS / max(folds, 1)))
    )
    return repeats, Decision(
        "choose.repeats",
        repeats,
        "user" if pinned else "rule",
        f"About {_TARGET_FITS} held-out fits a rung: few labels are measured by repeating the split.",
        {"folds": folds},
        pinned=pinned,
    )
