"""The forecast as a page: the sentence, the learning curves with their bands, and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path

from fallow.record.next_labels import Expected, Forecast, RungForecast
from fallow.report.page import page_environment, page_style, write_page
from fallow.report.words import counts_line, percent, rung_title

WIDTH, HEIGHT = 860, 420
LEFT, RIGHT, TOP, BOTTOM = 58, 840, 28, 376
_COLORS = {"probe": "k1", "propagate": "k0"}
_NICE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One learning curve as drawn.

    Attributes:
        name: In words.
        color: Class of its color.
        path: SVG path of the medians.
        band: SVG path of the interval.
        dots: What was measured: the place from the left, and from the top the error and the ends of its interval.
    """

    name: str
    color: str
    path: str
    band: str
    dots: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Plot:
    """The drawing: a logarithmic axis of labels, a linear one of errors from zero."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    today: float
    spoken: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


@dataclass(frozen=True)
class Figure:
    """An error and its interval in words."""

    error: str
    interval: str


@dataclass(frozen=True)
class Row:
    """A line of the table of figures."""

    labels: str
    price: str
    cells: tuple[Figure, ...]


def write_forecast_page(path: Path, found: Forecast) -> None:
    """Write the page: self-contained, no script, readable on a phone and in the dark.

    Raises:
        RunError: The disk is full.
    """
    environment = page_environment()
    text = environment.get_template("forecast.html.j2").render(
        found=found,
        counts=counts_line(found.counts),
        rest=_rest(found),
        plot=draw(found),
        rows=table(found),
        prices=found.price_per_label is not None,
        style=page_style(environment),
    )
    write_page(path, text)


def money(amount: float) -> str:
    """Return an amount as a person writes it: no cents where they do not matter."""
    return f"{amount:,.0f}" if amount >= 100 or amount == round(amount) else f"{amount:,.2f}"


def draw(found: Forecast) -> Plot | None:
    """Return the drawing of all curves; None without any."""
    if not found.rungs:
        return None
    few = min(point.labels for rung in found.rungs for point in rung.curve)
    many = max(point.labels for rung in found.rungs for point in rung.curve)
    highest = max(
        [point.high for rung in found.rungs for point in rung.curve]
        + [point.high for rung in found.rungs for point in rung.measured]
    )
    step = next((s for s in _NICE if highest / s <= 6), 0.25)
    top = step * ceil(highest / step)
    span = max(log(many / few), 1e-9)

    def x(labels: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * log(labels / few) / span, 1)

    def y(error: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * min(error / top, 1.0), 1)

    now = found.rungs[0].now.labels
    marks = dict.fromkeys([round(few), now, *(point.labels for point in found.rungs[0].expected)])
    return Plot(
        tuple(_line(rung, x, y) for rung in found.rungs),
        tuple(_apart([Tick(x(labels), f"{labels:,}") for labels in sorted(marks) if labels >= few])),
        tuple(Tick(y(step * i), percent(step * i, 0)) for i in range(round(top / step) + 1)),
        x(now),
        "; ".join(
            f"{name_of(rung)}: error {percent(rung.now.error)} with {now:,} labels, "
            f"{percent(rung.expected[-1].error)} expected with {rung.expected[-1].labels:,}"
            for rung in found.rungs
        ),
    )


def _apart(ticks: Sequence[Tick], least: float = 46.0) -> list[Tick]:
    """Leave out marks that would be written over their neighbors."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or tick.at - kept[-1].at >= least:
            kept.append(tick)
    return kept


def name_of(rung: RungForecast) -> str:
    """Return a curve's name as a person reads it."""
    return "labels only" if rung.rung == "probe" else rung_title(rung.rung)


def _line(rung: RungForecast, x: object, y: object) -> Line:
    assert callable(x)
    assert callable(y)
    places = [(x(point.labels), y(point.error)) for point in rung.curve]
    upper = [(x(point.labels), y(point.high)) for point in rung.curve]
    lower = [(x(point.labels), y(point.low)) for point in reversed(rung.curve)]
    dots = tuple((x(p.labels), y(p.error), y(p.low), y(p.high)) for p in rung.measured)
    return Line(
        name_of(rung), _COLORS.get(rung.rung, "k0"), _path(places), _path([*upper, *lower]) + "Z", dots
    )


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def table(found: Forecast) -> list[Row]:
    """Return the figures: a row for today, and one for each number of labels that is looked ahead to."""
    if not found.rungs:
        return []
    price = found.price_per_label
    rows = []
    for index, point in enumerate([found.rungs[0].now, *found.rungs[0].expected]):
        more = point.labels - found.rungs[0].now.labels
        cells = [([rung.now, *rung.expected])[index] for rung in found.rungs]
        rows.append(
            Row(
                f"{point.labels:,}" + (f" (+{more:,})" if more else " (today)"),
                money(price * more) if price is not None and more else "",
                tuple(Figure(percent(cell.error), interval(cell)) for cell in cells),
            )
        )
    return rows


def interval(point: Expected) -> str:
    """Return the ends of an interval in percent: ``6.2-7.8``."""
    return f"{100 * point.low:.1f}–{100 * point.high:.1f}"


def _rest(found: Forecast) -> str:
    """Return what stands below the first sentence."""
    if not found.rungs or found.worth_labels is None or not found.counts.unlabeled:
        return found.worth_note if found.rungs and found.counts.unlabeled else ""
    return ""


def last_screen(found: Forecast, page: Path) -> str:
    """Return what a terminal shows at the end."""
    lines = [f" fallow  {found.data}   {counts_line(found.counts)}", "", f" {found.sentence}"]
    if found.rungs:
        names = [name_of(rung) for rung in found.rungs]
        lines += [
            "",
            " labels".ljust(18) + "".join(f"{name:<24}" for name in names) + _priced(found, "price"),
        ]
        for row in table(found):
            cells = "".join(f"{f'{cell.error}  ({cell.interval})':<24}" for cell in row.cells)
            lines.append(f" {row.labels:<17}{cells}{_priced(found, row.price)}".rstrip())
        lines += [
            "",
            " Intervals are meant to hold 80 %. New labels are taken to be drawn at random, like those there are.",
        ]
    lines += [f" note: {note}" for note in found.notes]
    return "\n".join([*lines, f" {page}"]) + "\n"


def _priced(found: Forecast, text: str) -> str:
    return text if found.price_per_label is not None else ""
