"""What a pretraining run looks like: the last screen, and a page with the same figures."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fallow.record import Decision, Interval
from fallow.record.pretrained import Finding, PretrainRecord
from fallow.report.lines import in_ascii, speaks_unicode
from fallow.report.page import page_environment, page_style, write_page
from fallow.report.view import Tile, Tone
from fallow.report.words import duration, percent, plural

_WIDTH = 80
_TONES: dict[Finding, Tone] = {"better": "better", "worse": "worse"}
"""Color follows what the interval shows, not the sign of the difference."""


@dataclass(frozen=True)
class Line:
    """One figure, before and after.

    Attributes:
        name: What it is.
        before: Of the network that learning started from.
        after: Of the trained one.
        meaning: What it says, for who has never heard of it.
    """

    name: str
    before: str
    after: str
    meaning: str


def write_pretrain_report(
    path: Path, record: PretrainRecord, decisions: Sequence[Decision], data: str
) -> None:
    """Write the page: self-contained, no script, readable on a phone and in the dark.

    Args:
        path: Where to write; replaced atomically.
        record: What was measured.
        decisions: What was decided.
        data: The data as the user named them.

    Raises:
        RunError: The disk is full.
    """
    environment = page_environment()
    sentence, _, rest = record.verdict.partition(": ")
    text = environment.get_template("pretrain.html.j2").render(
        data=data,
        sentence=sentence if rest else record.verdict,
        rest=rest[:1].upper() + rest[1:],
        counts=_counts(record),
        notes=[*record.findings, *record.notes],
        tiles=_tiles(record),
        lines=pretrain_lines(record),
        decisions=decisions,
        style=page_style(environment),
    )
    write_page(path, text)


def pretrain_screen(record: PretrainRecord, *, data: str, run: Path, budget_seconds: float = 0.0) -> str:
    """Return the last thing that ``fallow pretrain`` prints, within 80 columns (but for long paths)."""
    rows = pretrain_lines(record)
    wide = max(len(row.name) for row in rows)
    lines = ["", f" fallow  {data}   {_counts(record)}", ""]
    lines.append(f" {'':<{wide}}  {'before':>10}  {'after':>10}")
    lines += [f" {row.name:<{wide}}  {row.before:>10}  {row.after:>10}" for row in rows]
    lines.append("")
    if record.difference is not None:
        lines.append(f" difference of the probe {_difference(record.difference)}")
    lines += [f" {part}" for part in textwrap.wrap(record.verdict, _WIDTH - 1)]
    for note in (*record.findings, *record.notes):
        lines += [
            f" {'note' if n == 0 else '':<8}{part}" for n, part in enumerate(textwrap.wrap(note, _WIDTH - 9))
        ]
    spent = duration(record.seconds) + (f" of {duration(budget_seconds)}" if budget_seconds else "")
    pace = f"{record.steps:,} steps of {record.batch} images, {record.images_per_second:,.0f} images a second"
    kept = run / "model"
    lines += [
        "",
        f" learned {record.method}, {record.backbone} at {record.size} px; {pace}",
        f" report  {run / 'report.html'}",
        f" model   {kept}"
        + ("  (the start; what was learned is in trained/)" if record.leaves == "start" else ""),
        f" next    fallow train DATA --backbone {run}",
        f" time    {spent}",
        "",
    ]
    text = "\n".join(lines)
    return text if speaks_unicode(sys.stdout) else in_ascii(text)


def pretrain_lines(record: PretrainRecord) -> list[Line]:
    """Return the figures before and after."""
    before, after = record.before, record.after
    found = []
    if before.probe is not None and after.probe is not None:
        meaning = "How often a linear model on the features names an image rightly that it was not fitted on."
        found.append(Line("linear probe", percent(before.probe.value), percent(after.probe.value), meaning))
    if before.knn is not None and after.knn is not None:
        meaning = "How often the nearest labeled images name an image rightly."
        found.append(Line("nearest neighbors", percent(before.knn), percent(after.knn), meaning))
    meaning = "In how many directions the features spread (RankMe). Near 1 they have collapsed; more is not always better."
    found.append(Line("directions used", f"{before.rank:.1f}", f"{after.rank:.1f}", meaning))
    meaning = "Which share of an image's ten nearest images stays when it is noised as in training."
    found.append(Line("neighbors that stay", percent(before.stability), percent(after.stability), meaning))
    meaning = (
        "Which share of an image's ten nearest images are others than before: how far the features moved."
    )
    found.append(Line("neighbors that are new", "", percent(record.moved), meaning))
    meaning = (
        "How far the features moved as a whole: 0 is not at all, 1 is nothing in common (1 - linear CKA)."
    )
    found.append(Line("drift", "", f"{record.drift:.2f}", meaning))
    return found


def _counts(record: PretrainRecord) -> str:
    told = f", {record.labels:,} with their labels" if record.labels else ""
    parts = [f"{record.images:,} images learned from{told}"]
    parts += [f"{record.judged:,} labeled ones judge"] if record.judged else []
    parts += [f"{record.test:,} test images untouched"] if record.test else []
    return " · ".join(parts)


def _difference(found: Interval) -> str:
    return (
        f"{100 * found.value:+.1f} points (95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f})"
    )


def _tiles(record: PretrainRecord) -> list[Tile]:
    found = []
    if record.difference is not None and record.after.probe is not None:
        one = record.difference
        note = f"95 % interval {100 * one.low:+.1f} to {100 * one.high:+.1f} points"
        small = f"on {plural(one.n, 'held-out label')}"
        tone = _TONES.get(record.finding, "neutral")
        found.append(Tile("Linear probe, after less before", f"{100 * one.value:+.1f}", note, small, tone))
    pace = f"{record.images_per_second:,.0f} images a second"
    found.append(
        Tile(
            "Learned",
            f"{record.steps:,} steps",
            f"of {record.batch} images by {record.method}",
            pace,
            "neutral",
        )
    )
    what = f"{record.init}, {record.trainable} blocks" if record.trainable == "last" else record.init
    found.append(Tile("Network", record.backbone, f"at {record.size} pixels", what, "neutral"))
    return found
