"""Labeled images to judge features on: what is left of them after the audit, and which of them are judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.data import Audit, ImageReader, check_trainable, stratified
from fallow.errors import DataError
from fallow.report.words import plural
from fallow.study.probing.deal import Deal
from fallow.study.rung import ImageSet
from fallow.types import Split


@dataclass(frozen=True)
class ProbedData:
    """Labeled images after the audit.

    Attributes:
        audit: What was found in the data.
        ids: Images, those that may be learned from first.
        classes: Names, sorted.
        deal: Who is learned from and who is judged.
        judged_on: The same in words.
        notes: What a person should know.
    """

    audit: Audit
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    deal: Deal
    judged_on: str
    notes: tuple[str, ...]

    @classmethod
    def build(cls, audit: Audit, split: str, most: int, seed: int) -> ProbedData:
        """Take the audited table apart.

        Args:
            audit: What was found.
            split: What is judged: ``auto``, ``train``, ``val`` or ``test``.
            most: At most so many images are learned from, and judged.
            seed: Of folds and draws.

        Raises:
            DataError: There are too few labels, or none in the split.
        """
        check_trainable(audit)
        table, notes = audit.table, []
        part = _split(audit, split)
        tested = table.labels(part) if part in ("val", "test") else {}
        labels = {
            **table.labels("train"),
            **(table.labels("val") if split == "auto" or part == "test" else {}),
        }
        group = dict(zip(table.ids(), table.images["group"].to_pylist(), strict=True))
        apart = {group[i] for i in tested if group[i] is not None}
        if mixed := [i for i in labels if group[i] in apart]:
            labels = {i: name for i, name in labels.items() if i not in set(mixed)}
            notes.append(
                f"{plural(len(mixed), 'image')} of groups that are judged were left out of learning."
            )
        if audit.leaks:
            said = (
                "the same picture is among those kept for judging"
                if tested
                else "their picture is in another split"
            )
            notes.append(f"{plural(len(audit.leaks), 'image')} left out: {said}.")
        learned, judged = _drawn(labels, most, seed, notes), _drawn(tested, most, seed, notes)
        ids, both = (*learned, *judged), {**labels, **tested}
        classes = tuple(sorted(set(labels.values())))
        index = {name: c for c, name in enumerate(classes)}
        y = np.array([index[both[i]] for i in ids], np.int64)
        is_tested: NDArray[np.bool_] = np.arange(len(ids)) >= len(learned)
        deal = Deal.of(y, tuple(group[i] or i for i in ids), is_tested, len(classes), seed)
        if not deal.rounds:
            raise DataError(_nothing_held_out(audit, labels))
        return cls(audit, ids, classes, deal, _judged_on(deal, part), tuple(notes))

    @property
    def images(self) -> ImageSet:
        """All images, as they can be read."""
        reader = ImageReader(self.audit.source, self.audit.table, self.audit.scale)
        return ImageSet(self.ids, self.audit.table.column("pixel_hash", self.ids), reader.read)

    @property
    def judged_hashes(self) -> list[str]:
        """Hashes of the files that are judged."""
        return self.audit.table.column("byte_hash", [self.ids[i] for i in self.deal.judged])


def _split(audit: Audit, split: str) -> Split:
    """Return the split that is judged; ``train`` is judged on folds of itself."""
    there: list[Split] = [name for name in ("train", "val", "test") if audit.table.labels(name)]
    if split == "auto":
        return "test" if "test" in there else "train"
    for name in there:
        if name == split:
            return name
    raise DataError(f"there are no labeled images in {split}: give --split {', '.join(there)}")


def _drawn(labels: dict[str, str], most: int, seed: int, notes: list[str]) -> list[str]:
    """Return ``most`` of the images, each class with its share."""
    ids = sorted(labels)
    if len(ids) <= most:
        return ids
    notes.append(f"{most:,} of {len(ids):,} labeled images took part, each class with its share (--images).")
    names = np.array([labels[i] for i in ids])
    return [ids[i] for i in stratified(names, most, np.random.default_rng([seed, 17]))]


def _nothing_held_out(audit: Audit, labels: dict[str, str]) -> str:
    counts = Counter(labels.values())
    name = min(sorted(counts), key=lambda c: counts[c])
    where = getattr(audit.source, "root", audit.source.describe())
    if counts[name] < 2:
        return (
            f"the class '{name}' in '{where}' has one image, so that nothing of it can be held out: add images to it, take it "
            "out, or give images to judge in test/"
        )
    return f"nothing can be held out in '{where}': all images of a class are in one group; give images to judge in test/"


def _judged_on(deal: Deal, part: Split) -> str:
    if deal.has_test:
        where = {"test": "test/", "val": "the validation split"}[part]
        return f"{plural(len(deal.judged), 'image')} of {where}, learned from {len(deal.learned):,} others"
    folds = f"{deal.folds} folds" if deal.folds != len(deal.y) else "one image at a time"
    return f"{plural(len(deal.judged), 'labeled image')} by turns: {folds}, dealt {plural(len(deal.rounds), 'time')}"
