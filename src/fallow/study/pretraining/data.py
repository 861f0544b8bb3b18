"""Who is learned from, with its label or without, and who judges: what judges, and whatever belongs to it, is never learned from."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.data import Audit, ImageReader, ImageTable, assign_folds, check_images
from fallow.errors import DataError
from fallow.methods import PRETRAIN
from fallow.record import Counts, Decision, DecisionLog
from fallow.study.rung import ImageSet

_A_CLASS, _SHARE, _MOST = 10, 0.2, 2000
"""How many labeled images judge: so many a class or so large a share of all images, whichever is more, up to a number from
which more of them tell little more."""
_ALL = 0.9
"""Where they would be nearly all of the labeled ones, they are all of them."""
_TEACH = (
    "{} learns from the labels of images that do not judge; an image without a label is a class of its own, whose views belong to "
    "nobody else's."
)


@dataclass(frozen=True)
class PretrainData:
    """Images to learn from and images that judge, after the audit.

    Attributes:
        audit: What was found in the data.
        table: The clean table.
        reader: Reads images by id.
        pool_ids: Images that are learned from, labeled or not.
        judge_ids: Labeled images that judge.
        y: Their classes, (n,).
        classes: Names of the classes that can be told apart; empty where nothing can.
        groups: What the judging images belong to; each to itself where nothing is known.
        test_ids: Images of ``test/``: nobody looks at them.
        taught: Of each image that is learned from the class that goes with it, by number, (pool,); -1: none. All are -1 where the
            method learns from no labels.
        left_out: Classes with one label, which cannot take part in judging.
    """

    audit: Audit
    table: ImageTable
    reader: ImageReader
    pool_ids: tuple[str, ...]
    judge_ids: tuple[str, ...]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    test_ids: tuple[str, ...]
    taught: NDArray[np.int64]
    left_out: tuple[str, ...] = ()

    @classmethod
    def build(cls, audit: Audit, seed: int, decisions: DecisionLog, method: str = "auto") -> PretrainData:
        """Take the audited table apart.

        Args:
            audit: The data.
            seed: Draws who judges.
            decisions: Where it is written down.
            method: How the network will learn. Where that takes labels, half of them at most judge, and the others are learned from;
                ``auto`` never takes any.

        Raises:
            DataError: There are fewer than two images to learn from.
        """
        check_images(audit)
        table = audit.table
        group = dict(zip(table.ids(), table.images["group"].to_pylist(), strict=True))
        val, train, test = table.labels("val"), table.labels("train"), table.ids("test")
        teaches = method in PRETRAIN and bool(PRETRAIN[method].views.labeled)
        held = _held_out(train, val, group, len(table) - len(test), seed, decisions, teaches)
        apart = {group[i] for i in (*held, *test) if group[i] is not None}
        out = {*held, *test}
        pool = tuple(i for i in table.ids() if i not in out and (group[i] is None or group[i] not in apart))
        if len(pool) < 2:
            raise DataError(
                f"there are {len(pool)} images to learn from in {audit.source.describe()}: images of test/ and those that "
                "judge are never learned from; give more images, with or without labels"
            )
        labels = {**train, **val}
        taught = _taught(pool, labels if teaches else {})
        if teaches:
            count = int((taught >= 0).sum())
            evidence = {"classes": int(taught.max()) + 1, "without_label": len(pool) - count}
            decisions.add(Decision("labels.learned", count, "rule", _TEACH.format(method), dict(evidence)))
        counted = Counter(labels[i] for i in held)
        single = tuple(sorted(name for name, n in counted.items() if n < 2))
        classes = tuple(sorted(name for name, n in counted.items() if n >= 2))
        if len(classes) < 2:
            classes = ()
        judges = tuple(i for i in held if labels[i] in classes)
        index = {name: c for c, name in enumerate(classes)}
        y = np.array([index[labels[i]] for i in judges], np.int64)
        groups = tuple(group[i] or i for i in judges)
        reader = ImageReader(audit.source, table, audit.scale)
        return cls(audit, table, reader, pool, judges, y, classes, groups, tuple(test), taught, single)

    def images(self, ids: tuple[str, ...]) -> ImageSet:
        """Return ``ids`` as images that can be read."""
        return ImageSet(ids, self.table.column("pixel_hash", ids), self.reader.read)

    @property
    def counts(self) -> Counts:
        """How many images of each kind take part: those that judge, or are learned from with their labels, are the labeled ones."""
        return Counts(
            labeled=len(self.judge_ids) + self.labels,
            unlabeled=len(self.pool_ids) - self.labels,
            test=len(self.test_ids),
            classes=len(self.classes),
            skipped=len(self.audit.skipped),
        )

    @property
    def labels(self) -> int:
        """How many images are learned from with their labels."""
        return int((self.taught >= 0).sum())

    def fingerprint(self) -> str:
        """Return a hash of all that a result depends on."""
        digest = hashlib.blake2b(digest_size=16)
        for ids in (self.pool_ids, self.judge_ids):
            for name, pixel in zip(ids, self.table.column("pixel_hash", ids), strict=True):
                digest.update(f"{name}\0{pixel}\0".encode(errors="surrogateescape"))
            digest.update(b"\n")
        digest.update("\0".join(self.groups).encode(errors="surrogateescape"))
        digest.update(self.y.tobytes())
        if self.labels:
            digest.update(self.taught.tobytes())
        return digest.hexdigest()


def _held_out(
    train: dict[str, str],
    val: dict[str, str],
    group: dict[str, str | None],
    images: int,
    seed: int,
    decisions: DecisionLog,
    teaches: bool,
) -> list[str]:
    """Return the labeled images that judge and are not learned from."""
    classes = {*train.values(), *val.values()}
    if len(classes) < 2:
        rule = "Nothing is held out: with labels of fewer than two classes nothing can be judged by labels."
        decisions.add(Decision("judge.images", 0, "rule", rule, {"classes": len(classes)}))
        return []
    enough = Counter(val.values())
    if len(enough) == len(classes) and min(enough.values()) >= 2:
        rule = "The validation images judge: they were given for that."
        held = sorted(val)
    else:
        wanted = min(len(train), max(_A_CLASS * len(classes), round(_SHARE * images)), _MOST)
        rule = (
            f"Labeled images judge, {_A_CLASS} a class or {_SHARE:.0%} of all images, whichever is more, {_MOST:,} at most: "
            "they are not learned from, and no copy of them is."
        )
        if teaches:
            wanted = min(wanted, max(len(train) // 2, 1))
            rule = f"Half of the labels at most judge, the others are learned from. {rule}"
        held = sorted({*val, *_drawn(train, group, wanted, seed)})
    evidence = {"labeled": len(train) + len(val), "images": images}
    decisions.add(Decision("judge.images", len(held), "rule", rule, dict(evidence)))
    return held


def _taught(pool: tuple[str, ...], labels: dict[str, str]) -> NDArray[np.int64]:
    """Return the class of each image by number, -1 where it has none."""
    number = {name: c for c, name in enumerate(sorted({labels[i] for i in pool if i in labels}))}
    return np.array([number[labels[i]] if i in labels else -1 for i in pool], np.int64)


def _drawn(train: dict[str, str], group: dict[str, str | None], wanted: int, seed: int) -> list[str]:
    """Return about so many of the labeled images, drawn class by class; groups stay whole."""
    ids = sorted(train)
    if wanted >= _ALL * len(ids):
        return ids
    names = {name: c for c, name in enumerate(sorted(set(train.values())))}
    parts = max(2, round(len(ids) / wanted))
    dealt = assign_folds([names[train[i]] for i in ids], [group[i] or i for i in ids], parts, 1, seed)[0]
    return [i for i, part in zip(ids, dealt, strict=True) if part == 0]
