"""What the figures say in a sentence or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fallow.record.probed import ProbedNetwork, ProbeFigure
from fallow.report.probe_page import difference_of, span, value_of
from fallow.report.words import plural

_FIRST = "linear"
"""The figure that speaks for all, where it was measured."""


def sentence(figures: Sequence[ProbeFigure], against: ProbedNetwork | None) -> str:
    """Return what a person reads first.

    Args:
        figures: All that was measured, one at least.
        against: The other backbone.
    """
    named = {figure.name: figure for figure in figures}
    first = named.get(_FIRST, figures[0])
    if against is None or first.difference is None:
        return (
            f"{_upper(first.title)} {value_of(first, first.value)}, 95 % interval {span(first, first.value)}."
        )
    told = f"{first.title} {difference_of(first)}"
    said = {
        "better": f"Better than {against.name}",
        "worse": f"Worse than {against.name}",
        "undecided": f"No difference to {against.name} that can be shown",
    }[first.finding]
    return f"{said}: {told}."


def told_of(figures: Sequence[ProbeFigure], skipped: int) -> list[str]:
    """Return what a person should know of the figures and the data."""
    notes = []
    found = Counter(figure.finding for figure in figures if figure.difference is not None)
    if (count := sum(found.values())) > 1:
        notes.append(
            f"Of {count} figures {found['better']} are surely better, {found['worse']} surely worse and "
            f"{found['undecided']} show no sure difference; by luck alone one in twenty would look sure."
        )
    if skipped:
        notes.append(f"{plural(skipped, 'file')} could not be used.")
    return notes


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
