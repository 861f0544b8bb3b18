"""The suggestions as a page of pictures, in the order in which they should be labeled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fallow.record.next_labels import Suggestion, Suggestions
from fallow.report.page import page_environment, page_style, write_page
from fallow.report.words import counts_line

MOST = 500
"""Pictures on the page: it stays under 10 MB."""
_ON_SCREEN = 10


@dataclass(frozen=True)
class Shown:
    """A suggestion with its picture (WebP bytes, or None)."""

    path: str
    reason: str
    guess: str | None
    confidence: float
    picture: bytes | None


def write_suggest_page(path: Path, found: Suggestions, pictures: Sequence[bytes | None]) -> None:
    """Write the page: self-contained, no script, readable on a phone and in the dark.

    Args:
        path: Where to write; replaced atomically.
        found: What was suggested.
        pictures: WebP bytes of the first suggestions, in order; what is missing shows no picture.

    Raises:
        RunError: The disk is full.
    """
    items = [_shown(one, picture) for one, picture in zip(found.items[:MOST], pictures, strict=False)]
    environment = page_environment()
    text = environment.get_template("suggest.html.j2").render(
        found=found,
        items=items,
        more=len(found.items) - len(items),
        rest="",
        counts=counts_line(found.counts),
        style=page_style(environment),
    )
    write_page(path, text)


def _shown(one: Suggestion, picture: bytes | None) -> Shown:
    return Shown(one.path, one.reason, one.guess, one.confidence, picture)


def last_screen(found: Suggestions, out: Path) -> str:
    """Return what a terminal shows at the end: the first suggestions, and where all of them are."""
    lines = [f" fallow  {found.data}   {counts_line(found.counts)}", "", f" {found.sentence}"]
    if found.items:
        wide = min(max(len(one.path) for one in found.items[:_ON_SCREEN]), 48)
        lines.append("")
        lines += [
            f" {n:>3}  {one.path:<{wide}}  {one.reason}" for n, one in enumerate(found.items[:_ON_SCREEN], 1)
        ]
        more = len(found.items) - _ON_SCREEN
        lines += [f"      and {more:,} more"] if more > 0 else []
        lines.append("")
    lines += [f" note: {note}" for note in found.notes]
    where = ("suggest.csv", "label-studio.json", "suggest.html")
    return "\n".join([*lines, " " + " · ".join(str(out / name) for name in where)]) + "\n"
