"""What labels look like: a page of pictures, and the last screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fallow.record import Decision, Interval
from fallow.record.labels import LabelSummary, Verdict
from fallow.report.data import Thumb
from fallow.report.page import page_environment, page_style, write_page
from fallow.report.view import Tile
from fallow.report.words import percent, plural

_UNTOLD = "–"


@dataclass(frozen=True)
class Grid:
    """One section of pictures.

    Attributes:
        name: Anchor.
        title: Heading.
        lede: What is shown, and what to do about it.
        pictures: The pictures.
    """

    name: Verdict
    title: str
    lede: str
    pictures: Sequence[Thumb]


@dataclass(frozen=True)
class ClassLine:
    """One class in the table."""

    name: str
    accepted: str
    named: str
    labels: str
    precision: str
    interval: str


@dataclass(frozen=True)
class RoundLine:
    """One round of labeling in the table."""

    number: int
    kept: bool
    accepted: str
    precision: str
    interval: str
    held_out: str
    why: str


def write_label_page(
    path: Path,
    summary: LabelSummary,
    pictures: Mapping[Verdict, Sequence[Thumb]],
    data: str,
    decisions: Sequence[Decision] = (),
) -> None:
    """Write the page: self-contained, no script, readable on a phone and in the dark.

    Args:
        path: Where to write; replaced atomically.
        summary: How many, how good, and why.
        pictures: Pictures of each verdict, in order.
        data: The data as the user named them.
        decisions: What was decided.

    Raises:
        RunError: The disk is full.
    """
    environment = page_environment()
    text = environment.get_template("label.html.j2").render(
        data=data,
        sentence=summary.sentence,
        rest=f"Named by {', '.join(summary.models)}.",
        counts=_counts(summary),
        notes=summary.notes,
        tiles=_tiles(summary),
        grids=_grids(summary, pictures),
        rounds=_rounds(summary),
        classes=_classes(summary),
        decisions=decisions,
        style=page_style(environment),
    )
    write_page(path, text)


def label_screen(summary: LabelSummary, folder: Path, page: Path) -> str:
    """Return the last screen for a terminal."""
    lines = [summary.sentence, "", f" {_counts(summary)}"]
    least = [(name, one) for name, one in summary.per_class.items() if one.named]
    for name, one in sorted(least, key=lambda item: item[1].accepted / max(item[1].named, 1))[:3]:
        lines.append(f" {name}: {one.accepted:,} of {one.named:,} accepted")
    lines += [_told(made) for made in _rounds(summary)]
    lines += [f" ! {note}" for note in summary.notes]
    lines += ["", f" {folder / 'labels.csv'} · {page}"]
    return "\n".join(lines) + "\n"


def _told(made: RoundLine) -> str:
    """Return what a round brought, in a line."""
    figures = f"{made.accepted} accepted, {made.precision} right, {made.held_out} of the held-out labels named rightly; "
    head = f" round {made.number}, {'kept' if made.kept else 'dropped'}: "
    return head + (figures if made.held_out != _UNTOLD else "") + made.why


def _counts(summary: LabelSummary) -> str:
    parts = [f"{summary.accepted:,} accepted", f"{summary.doubtful:,} doubtful"]
    parts += [f"{summary.foreign:,} foreign"] if summary.foreign else []
    return " · ".join([*parts, plural(summary.labels, "held-out label")])


def _tiles(summary: LabelSummary) -> list[Tile]:
    found = []
    if summary.precision is not None:
        one = summary.precision
        note = f"95 % interval {100 * one.low:.1f} to {100 * one.high:.1f}"
        found.append(
            Tile(
                "Right among the accepted labels",
                percent(one.value),
                note,
                f"from {plural(one.n, 'held-out label')}",
            )
        )
    share = f"{summary.accepted:,} of {plural(summary.pool, 'unlabeled image')}"
    found.append(Tile("Accepted", percent(summary.coverage), share))
    if summary.certified is not None:
        found.append(
            Tile("Certified", f"≥ {percent(summary.certified)}", "wrong in one of 20 such statements at most")
        )
    if summary.foreign:
        found.append(Tile("Of no class, it seems", f"{summary.foreign:,}", "set aside; look at them below"))
    return found


def _grids(summary: LabelSummary, pictures: Mapping[Verdict, Sequence[Thumb]]) -> list[Grid]:
    titles: dict[Verdict, tuple[str, int, str]] = {
        "accept": (
            "Accepted",
            summary.accepted,
            "A random sample, class by class, of the images that may be trained on. Look for wrong ones: they are what the figures "
            "above speak of.",
        ),
        "doubtful": (
            "Doubtful",
            summary.doubtful,
            "The least sure first. Labels from a person help most here: --format label-studio writes them as tasks.",
        ),
        "foreign": (
            "Foreign",
            summary.foreign,
            "Images that lie farther from every label than labels lie from each other: probably of no class of yours. If they do "
            "belong, label some of them, or keep them with --foreign keep.",
        ),
    }
    return [
        Grid(name, f"{title}, {count:,}", lede, pictures.get(name, ()))
        for name, (title, count, lede) in titles.items()
        if count
    ]


def _classes(summary: LabelSummary) -> list[ClassLine]:
    return [
        ClassLine(name, f"{one.accepted:,}", f"{one.named:,}", f"{one.labels:,}", *_share(one.precision))
        for name, one in summary.per_class.items()
    ]


def _rounds(summary: LabelSummary) -> list[RoundLine]:
    return [
        RoundLine(
            one.number,
            one.kept,
            f"{one.accepted:,}",
            *_share(one.precision),
            _share(one.held_out)[0],
            one.why,
        )
        for one in summary.rounds
    ]


def _share(found: Interval | None) -> tuple[str, str]:
    return (
        (_UNTOLD, "")
        if found is None
        else (percent(found.value), f"{100 * found.low:.1f} to {100 * found.high:.1f}")
    )
