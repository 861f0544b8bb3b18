"""What twins mean: leaks between splits, contradicting labels, and pictures that would count twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fallow.data.scan import Seen
from fallow.data.sources.base import Row, Skipped
from fallow.data.twins import Alike, How

_RANK = {"test": 0, "val": 1, "train": 2, "unlabeled": 3}


@dataclass(frozen=True)
class Image:
    """A readable image: its row and what was seen."""

    row: Row
    seen: Seen


@dataclass(frozen=True)
class TwinGroup:
    """Images that are the same picture.

    Attributes:
        ids: All of them, sorted, also those that were taken out.
        how: ``same file``, ``same pixels`` or ``encoded again``.
    """

    ids: tuple[str, ...]
    how: How


@dataclass(frozen=True)
class Leak:
    """An image taken out because the same picture is held out.

    Attributes:
        id: The image taken out.
        split: The split it was in.
        twin: The image that stays.
        twin_split: ``val`` or ``test``; ``train`` too where ``split`` is ``extra``, for training labels are held out in turn.
        how: How they are the same.
    """

    id: str
    split: str
    twin: str
    twin_split: str
    how: How


@dataclass(frozen=True)
class Conflict:
    """One picture with different labels; all copies were taken out.

    Attributes:
        ids: All copies, sorted.
        labels: The different labels, sorted.
        how: How they are the same.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    how: How


@dataclass
class Cleaned:
    """What `clean` leaves."""

    kept: list[Image] = field(default_factory=list)
    twins: list[TwinGroup] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    duplicates: list[Skipped] = field(default_factory=list)
    pool_twins: int = 0


def clean(images: Sequence[Image], alike: Sequence[Alike]) -> Cleaned:
    """Take out what would count twice or leak.

    A picture with two different labels leaves in all copies. What is in test leaves val, training and
    unlabeled data; what is in val leaves training and unlabeled data; what is labeled leaves the unlabeled
    data; within the unlabeled data a picture counts once. Labeled copies of one split stay and share a group,
    so that no fold separates them.
    """
    result = Cleaned()
    out: set[int] = set()
    bound: list[tuple[int, ...]] = []
    for group in alike:
        members = sorted(group.members, key=lambda i: (_RANK[images[i].row.split], images[i].row.id, i))
        stay = _rule(images, members, group.how, result)
        out |= set(members) - set(stay)
        if len(stay) > 1:
            bound.append(tuple(stay))
        ids = tuple(sorted({images[i].row.id for i in members}))
        if len(ids) > 1:
            result.twins.append(TwinGroup(ids, group.how))
    groups = _groups(images, bound)
    result.kept = [
        Image(replace(image.row, group=groups.get(i, image.row.group)), image.seen)
        for i, image in enumerate(images)
        if i not in out
    ]
    result.twins.sort(key=lambda twins: twins.ids)
    result.leaks.sort(key=lambda leak: leak.id)
    result.conflicts.sort(key=lambda conflict: conflict.ids)
    return result


def clean_extra(
    own: Sequence[Image], extra: Sequence[Image], alike: Sequence[Alike], result: Cleaned
) -> None:
    """Take out of the extra images what is also labeled in the data, and what would count twice; add the others to ``result``.

    What stays of the data is settled already, and nothing here changes it: an extra image has no vote on a label. A copy of
    an unlabeled image stays, as does its twin: neither is ever scored.

    Args:
        own: All readable images of the data, also those that were taken out.
        extra: The extra images.
        alike: Groups of twins among all of them, ``own`` first.
        result: Takes the images that stay, and why others do not.
    """
    out: set[int] = set()
    for group in alike:
        theirs = sorted(
            (i - len(own) for i in group.members if i >= len(own)), key=lambda i: (extra[i].row.id, i)
        )
        rows = [own[i].row for i in group.members if i < len(own) and own[i].row.split != "unlabeled"]
        labels = sorted({str(extra[i].row.label) for i in theirs})
        ids = tuple(dict.fromkeys(extra[i].row.id for i in theirs))
        if not theirs:
            continue
        if rows:
            best = min(rows, key=lambda row: (_RANK[row.split], row.id))
            result.leaks += [Leak(id_, "extra", best.id, best.split, group.how) for id_ in ids]
            out |= set(theirs)
        elif len(labels) > 1:
            result.conflicts.append(Conflict(ids, tuple(labels), group.how))
            out |= set(theirs)
        else:
            out |= set(theirs[1:])
            if len(ids) > 1:
                result.twins.append(TwinGroup(ids, group.how))
    result.kept += [image for i, image in enumerate(extra) if i not in out]
    result.leaks.sort(key=lambda leak: leak.id)
    result.conflicts.sort(key=lambda conflict: conflict.ids)
    result.twins.sort(key=lambda twins: twins.ids)


def _rule(images: Sequence[Image], members: list[int], how: How, result: Cleaned) -> list[int]:
    """Return which of ``members`` (best split first) stay, and note why the others do not."""
    rows = {i: images[i].row for i in members}
    labels = sorted({row.label for row in rows.values() if row.label is not None})
    if len(labels) > 1:
        ids = tuple(sorted({row.id for row in rows.values()}))
        result.conflicts.append(Conflict(ids, tuple(labels), how))
        return []
    best = rows[members[0]]
    stay: list[int] = []
    ids_kept: set[str] = set()
    for i, row in rows.items():
        if row.split == best.split and row.id not in ids_kept and not (best.split == "unlabeled" and stay):
            stay.append(i)
            ids_kept.add(row.id)
        elif row.split == best.split and row.id in ids_kept:
            result.duplicates.append(
                Skipped(row.id, "duplicate_row", "it is listed more than once", row.split)
            )
        elif best.split in ("test", "val"):
            result.leaks.append(Leak(row.id, row.split, best.id, best.split, how))
        else:
            result.pool_twins += 1
    return stay


def _groups(images: Sequence[Image], bound: Sequence[tuple[int, ...]]) -> dict[int, str]:
    """Return the group of each image that has one, given or as a twin; groups with a common twin are one."""
    links = [(members[0], other) for members in bound for other in members[1:]]
    first: dict[str, int] = {}
    for i, image in enumerate(images):
        if image.row.group is not None and (earlier := first.setdefault(image.row.group, i)) != i:
            links.append((earlier, i))
    if not links:
        return {}
    left, right = zip(*links, strict=True)
    graph = coo_array(([1.0] * len(links), (left, right)), shape=(len(images), len(images)))
    component = connected_components(graph, directed=False)[1]
    names: dict[int, str] = {}
    for i in sorted({*left, *right}, key=lambda i: (images[i].row.group is None, images[i].row.id)):
        names.setdefault(int(component[i]), images[i].row.group or f"twins of {images[i].row.id}")
    return {i: names[int(component[i])] for i in {*left, *right}}
