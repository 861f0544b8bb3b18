"""What is told of features that were judged: the last screen, and a page with the same figures."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fallow.record import Interval
from fallow.record.probed import ProbedNetwork, ProbeFigure, ProbeRecord
from fallow.report.lines import in_ascii, speaks_unicode
from fallow.report.page import page_environment, page_style, write_page
from fallow.report.words import duration, percent, plural

_WIDTH = 80
PAGE, FIGURES = "probe.html", "probe.json"
_ABOUT = {
    "knn": "How often the nearest images, each with a vote that weighs by likeness, name an image rightly. Nothing is fitted.",
    "linear": "How often a linear model on the features names an image rightly that it was not fitted on.",
    "low-shot": "The same with so few labels of each class; mean over five draws.",
    "clusters": "How far groups that form by themselves, as many as there are classes, are the classes; 1 is wholly, 0 is chance for "
    "the adjusted Rand index. Silhouette: near 1 the classes lie apart, near 0 they touch.",
    "retrieval": "Who asks for images like one: how often one of its class is among the first k, and how early all of them come.",
    "svm": "The same as the linear probe, with a support vector machine for each class.",
    "finetune": "How often the whole network, trained further on a part of the labels, names an image rightly.",
    "mlp": "The same with a hidden layer between: how much is there that no linear model reads.",
}


@dataclass(frozen=True)
class ProbeLine:
    """One figure as it is told."""

    title: str
    value: str
    interval: str
    spread: str
    against: str
    difference: str
    finding: str
    detail: str


@dataclass(frozen=True)
class ProbeSection:
    """The figures of one protocol and what they say, for who has never heard of it."""

    about: str
    lines: tuple[ProbeLine, ...]


def value_of(figure: ProbeFigure, found: Interval) -> str:
    """Return a value in percent or on its own scale."""
    return percent(found.value) if figure.share else f"{found.value:.3f}"


def span(figure: ProbeFigure, found: Interval) -> str:
    """Return the ends of an interval."""
    if figure.share:
        return f"{100 * found.low:.1f} to {100 * found.high:.1f}"
    return f"{found.low:.3f} to {found.high:.3f}"


def difference_of(figure: ProbeFigure) -> str:
    """Return a difference with its interval; nothing without one."""
    found = figure.difference
    if found is None:
        return ""
    if figure.share:
        return f"{100 * found.value:+.1f} points (95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f})"
    return f"{found.value:+.3f} (95 % interval {found.low:+.3f} to {found.high:+.3f})"


def write_probe_page(path: Path, record: ProbeRecord) -> None:
    """Write the page: self-contained, no script, readable on a phone and in the dark.

    Args:
        path: Where to write; replaced atomically.
        record: What was measured.

    Raises:
        RunError: The disk is full.
    """
    environment = page_environment()
    sentence, _, rest = record.sentence.partition(": ")
    text = environment.get_template("probe.html.j2").render(
        record=record,
        sentence=sentence if rest else record.sentence,
        rest=rest[:1].upper() + rest[1:],
        counts=_counts(record),
        networks=[network_line(n) for n in (record.network, record.against) if n is not None],
        sections=sections(record.figures),
        chance=percent(record.chance),
        style=page_style(environment),
    )
    write_page(path, text)


def sections(figures: Sequence[ProbeFigure]) -> list[ProbeSection]:
    """Return the figures protocol by protocol, in the order in which they were measured."""
    names = list(dict.fromkeys(figure.protocol for figure in figures))
    return [
        ProbeSection(_ABOUT[name], tuple(_line(figure) for figure in figures if figure.protocol == name))
        for name in names
    ]


def probe_screen(record: ProbeRecord, out: Path | None = None) -> str:
    """Return what ``fallow evaluate`` prints of features, within 80 columns (but for long names)."""
    lines = ["", f" fallow  {record.data}   {_counts(record)}", ""]
    for role, network in (("network", record.network), ("against", record.against)):
        if network is not None:
            lines.append(f" {role} {network_line(network)}")
    lines += [f" judged  {record.judged_on}"]
    lines += [f" chance  {percent(record.chance)}, by always naming the most frequent class", ""]
    lines += _versus(record.figures) if record.against is not None else _alone(record.figures)
    lines.append("")
    lines += [f" {part}" for part in textwrap.wrap(record.sentence, _WIDTH - 1)]
    for note in record.notes:
        lines += [
            f" {'note' if n == 0 else '':<8}{part}" for n, part in enumerate(textwrap.wrap(note, _WIDTH - 9))
        ]
    lines += ["", f" time    {duration(record.seconds)}"]
    if out is not None:
        lines.append(f" page    {out / PAGE}")
    text = "\n".join([*lines, ""])
    return text if speaks_unicode(sys.stdout) else in_ascii(text)


def network_line(network: ProbedNetwork) -> str:
    """Return what a network is, in one line."""
    sizes = "+".join(map(str, dict.fromkeys(network.sizes)))
    about = f", {network.about}" if network.about else ""
    return f"{network.name} at {sizes} px, {network.dim:,} features{about}"


def _alone(figures: Sequence[ProbeFigure]) -> list[str]:
    wide = max(len(figure.title) for figure in figures)
    found = [f" {'':<{wide}}  {'value':>8}  {'95 % interval':>14}  {'spread':>7}"]
    for line in map(_line, figures):
        row = f" {line.title:<{wide}}  {line.value:>8}  {line.interval:>14}  {line.spread:>7}"
        found.append((row + f"  {line.detail}").rstrip())
    return found


def _versus(figures: Sequence[ProbeFigure]) -> list[str]:
    wide = max(len(figure.title) for figure in figures)
    found = [f" {'':<{wide}}  {'value':>7}  {'against':>7}  {'difference and interval':>23}"]
    for line in map(_line, figures):
        row = f" {line.title:<{wide}}  {line.value:>7}  {line.against:>7}  {line.difference:>23}"
        found.append(f"{row}  {line.finding if line.finding != 'undecided' else ''}".rstrip())
    return found


def _line(figure: ProbeFigure) -> ProbeLine:
    spread = ""
    if figure.spread is not None:
        spread = f"± {100 * figure.spread:.1f}" if figure.share else f"± {figure.spread:.3f}"
    against = "" if figure.against is None else value_of(figure, figure.against)
    return ProbeLine(
        figure.title,
        value_of(figure, figure.value),
        span(figure, figure.value),
        spread,
        against,
        _short_difference(figure),
        figure.finding,
        figure.detail,
    )


def _short_difference(figure: ProbeFigure) -> str:
    found = figure.difference
    if found is None:
        return ""
    scale, digits = (100, 1) if figure.share else (1, 3)
    low, high = scale * found.low, scale * found.high
    return f"{scale * found.value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _counts(record: ProbeRecord) -> str:
    return f"{record.labeled:,} labeled · {record.judged:,} judged · {plural(record.classes, 'class', 'classes')}"
