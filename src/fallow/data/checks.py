"""Whether an audited data set can be trained on, and how much of a validation split is used for choosing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa

from fallow.data.audit import Audit
from fallow.data.sources.extra import MARK, WithExtra
from fallow.data.table import ImageTable
from fallow.errors import DataError, nearest
from fallow.record import Decision
from fallow.types import Split

_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?")
_BETWEEN = re.compile(r"\s*[|;,]\s*")
_MANY = 8
"""Fewer different numbers may be grades: 1, 1.5, 2 ..."""
HOW_TO_LABEL = "give labels by class folders (train/<class>/photo.jpg) or a CSV file with lines 'path,label'"


def check_trainable(audit: Audit) -> None:
    """Make sure that a classifier can be learned.

    Raises:
        DataError: There is no image, no label, one class only, a class without a usable image, or a class in
            val or test that training lacks.
    """
    check_images(audit)
    where = _where(audit)
    if not audit.given:
        raise DataError(f"labels are missing: all images in {where} are unlabeled; {HOW_TO_LABEL}")
    _check_classes(audit, where)
    for label, given in audit.given.items():
        if label not in audit.class_counts("train"):
            raise DataError(
                f"the class '{label}' in {where} has no usable training image left "
                f"({_why_gone(audit, label, given)}): add images to it or take the class out"
            )
    classes = list(audit.given)
    if len(classes) == 1:
        raise DataError(
            f"there is one class only, '{classes[0]}', in {where}: a classifier needs at least two; "
            f"{HOW_TO_LABEL}"
        )
    held_out: tuple[tuple[Split, str], ...] = (("val", "validation"), ("test", "test"))
    for split, name in held_out:
        for label in audit.class_counts(split):
            if label not in audit.given:
                raise DataError(
                    f"the class '{label}' is in the {name} images of {where} but not in the training images: "
                    f"add training images of it or take it out.{nearest(label, classes)}"
                )


def _check_classes(audit: Audit, where: str) -> None:
    """Make sure that the labels are classes, and not measurements.

    Raises:
        DataError: Nearly every image has a number of its own, some with decimals.
    """
    labels, images = list(audit.given), sum(audit.given.values())
    if len(labels) < _MANY or 2 * len(labels) < images or not all(map(_NUMBER.fullmatch, labels)):
        return
    if broken := next((label for label in labels if not float(label.replace(",", ".")).is_integer()), None):
        raise DataError(
            f"the labels in {where} look like measurements ({len(labels)} different numbers on {images} images, such as "
            f"'{broken}'): fallow learns classes so far; put the numbers into a few ranges and give each a name"
        )


def several_in_one(audit: Audit) -> str:
    """Return a sentence on labels that read like several classes of one image (``dog|beach``); empty where there are none."""
    parts = {label: set(_BETWEEN.split(label)) for label in audit.given}
    for label, these in parts.items():
        if len(these) > 1 and any(these & others for name, others in parts.items() if name != label):
            return f"'{label}' is taken as one class: several classes for one image are not learned so far."
    return ""


def check_extra(audit: Audit) -> None:
    """Make sure that extra images, where there are any, have labels that the data know.

    Raises:
        DataError: None has a label, none can be used, or a class is none of the data's.
    """
    source = audit.source
    if not isinstance(source, WithExtra):
        return
    where = f"'{getattr(source.extra, 'root', source.extra.describe())}'"
    if not source.taken:
        raise DataError(f"the extra images in {where} have no labels: {HOW_TO_LABEL}")
    classes = audit.class_counts("train")
    for label in audit.class_counts("extra"):
        if label not in classes:
            raise DataError(
                f"the class '{label}' is in the extra images of {where} but not in the training images: name it as it is "
                f"named there, or take it out.{nearest(label, list(classes))}"
            )
    lost = [item for item in audit.skipped if item.split == "extra"]
    gone = any(leak.split == "extra" for leak in audit.leaks) or any(
        conflict.ids[0].startswith(MARK) for conflict in audit.conflicts
    )
    if lost and not gone and not audit.class_counts("extra"):
        raise DataError(
            f"none of the {len(lost)} extra images in {where} can be used; the first is "
            f"'{lost[0].id.removeprefix(MARK)}': {lost[0].reason}"
        )


def check_images(audit: Audit) -> None:
    """Make sure that there is an image.

    Raises:
        DataError: There is none; why is told.
    """
    if len(audit.table):
        return
    where = _where(audit)
    if audit.conflicts:
        raise DataError(f"no image is left in {where}: every picture has two different labels")
    files = [item for item in audit.skipped if item.kind != "not_a_split"]
    if not files:
        raise DataError(
            f"nothing found: {where} holds no image; see 'Data' in the README for what can be read"
        )
    first = files[0]
    raise DataError(
        f"nothing found: none of the {len(files)} files in {where} can be used as an image; "
        f"the first is '{first.id}': {first.reason}"
    )


def _where(audit: Audit) -> str:
    return f"'{getattr(audit.source, 'root', audit.source.describe())}'"


def _why_gone(audit: Audit, label: str, given: int) -> str:
    if given == 0:
        return "its folder is empty"
    lost = audit.unreadable.get(label, [])
    causes = [
        f"{len(lost)} could not be read, the first is '{lost[0].id}': {lost[0].reason}" if lost else "",
        f"in the whole data set {len(audit.leaks)} are also in val or test" if audit.leaks else "",
        "its images also carry another label" if any(label in c.labels for c in audit.conflicts) else "",
    ]
    return f"{given} given; " + "; ".join(cause for cause in causes if cause)


def limit_validation(table: ImageTable, seed: int) -> tuple[ImageTable, Decision | None]:
    """Keep a validation split that is no larger than the training labels; the rest joins training.

    Somebody with 40 labels and 1,000 validation images has 1,040 labels; using 1,000 of them only to choose
    wastes them. What stays is drawn by class in the proportions of the validation split, groups kept whole.

    Args:
        table: An audited table.
        seed: Seed of the draw.

    Returns:
        The table with some ``val`` turned into ``train``, and the Decision; (table, None) if all stays.
    """
    train, val = table.labels("train"), table.labels("val")
    if len(val) <= len(train):
        return table, None
    kept = _draw(table, val, len(train), np.random.default_rng([seed, 0x7A1]))
    splits = [
        "train" if split == "val" and id_ not in kept else split
        for id_, split in zip(table.ids(), table.images["split"].to_pylist(), strict=True)
    ]
    place = table.images.schema.get_field_index("split")
    images = table.images.set_column(place, table.images.schema.field(place), pa.array(splits, pa.string()))
    decision = Decision(
        "data.validation",
        len(kept),
        "rule",
        "a validation split larger than the training labels is cut to their number, by class, and the rest "
        "joins training",
        {
            "training_labels": len(train),
            "validation_given": len(val),
            "joined_training": len(val) - len(kept),
        },
    )
    return ImageTable(images, table.annotations), decision


def _draw(table: ImageTable, val: dict[str, str], size: int, rng: np.random.Generator) -> set[str]:
    """Return at most ``size`` ids of ``val``: per class by largest remainder, whole groups only."""
    ids = sorted(val)
    groups: dict[str, list[str]] = defaultdict(list)
    for id_, group in zip(ids, table.column("group", ids), strict=True):
        groups[id_ if group is None else f"group {group}"].append(id_)
    counts = Counter(val.values())
    exact = {label: size * n / len(val) for label, n in counts.items()}
    quota = {label: int(share) for label, share in exact.items()}
    for label in sorted(exact, key=lambda c: (quota[c] - exact[c], c))[: size - sum(quota.values())]:
        quota[label] += 1
    kept: set[str] = set()
    names = sorted(groups)
    for index in rng.permutation(len(names)):
        members = groups[names[index]]
        needed = Counter(val[id_] for id_ in members)
        if all(quota[label] >= n for label, n in needed.items()):
            kept.update(members)
            for label, n in needed.items():
                quota[label] -= n
    return kept
