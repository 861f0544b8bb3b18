"""The audit as the page shows it: what was taken out or kept together, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallow.report.words import plural

_SHOWN = 24  # entries of each kind: the rest is in audit.json
OPEN = 5
"""Entries of each kind that need no click."""
_PICTURES = 8  # of one entry


@dataclass(frozen=True)
class Entry:
    """One finding: the images it is about, and a few words."""

    ids: tuple[str, ...]
    more: int
    words: str


@dataclass(frozen=True)
class Finding:
    """All findings of one kind."""

    title: str
    meaning: str
    entries: tuple[Entry, ...]
    more: int


def findings(audit: Mapping[str, Any]) -> list[Finding]:
    """Return the findings by kind; kinds without any are left out."""
    skipped = [_entry([x["id"]], _both(x.get("reason"), x.get("split"))) for x in audit.get("skipped") or ()]
    leaks = [
        _entry(
            [x["id"], x["twin"]],
            f"{x['how']}: taken out of {x['split']}, because {x['twin_split']} holds the second",
        )
        for x in audit.get("leaks") or ()
    ]
    conflicts = [
        _entry(x["ids"], f"labeled {' and '.join(x['labels'])} ({x['how']})")
        for x in audit.get("conflicts") or ()
    ]
    told = [{x["id"], x["twin"]} for x in audit.get("leaks") or ()]
    told += [set(x["ids"]) for x in audit.get("conflicts") or ()]
    twins = [_entry(x["ids"], str(x["how"])) for x in audit.get("twins") or () if set(x["ids"]) not in told]
    kinds = [
        (plural(len(skipped), "file") + " skipped", "They could not be used; everything else was.", skipped),
        (
            plural(len(leaks), "leak"),
            "An image for training that is also held out would be a question with its answer: taken out of training.",
            leaks,
        ),
        (
            plural(len(conflicts), "conflict"),
            "One picture with several labels: nobody can know which is right, so all copies were left out. Check them.",
            conflicts,
        ),
        (
            plural(len(twins), "group") + " of twins",
            "One picture, several times: it counts once, and copies never part between training and held-out.",
            twins,
        ),
    ]
    return [Finding(t, m, tuple(e[:_SHOWN]), max(len(e) - _SHOWN, 0)) for t, m, e in kinds if e]


def _entry(ids: Sequence[str], words: str) -> Entry:
    return Entry(tuple(ids[:_PICTURES]), max(len(ids) - _PICTURES, 0), words)


def _both(reason: str | None, split: str | None) -> str:
    return f"{reason} (in {split})" if reason and split else reason or split or ""


def class_counts(
    audit: Mapping[str, Any], classes: Sequence[str]
) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Return the splits that have labels and, for each class, its images in each of them."""
    by_split = {split: counts for split, counts in (audit.get("class_counts") or {}).items() if counts}
    names = list(dict.fromkeys([*classes, *(name for counts in by_split.values() for name in counts)]))
    rows = [(name, [int(counts.get(name, 0)) for counts in by_split.values()]) for name in names]
    return list(by_split), rows if by_split else []
