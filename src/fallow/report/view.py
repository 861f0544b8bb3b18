"""What each section of the page says, as plain values: the templates only place them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fallow.record import ONE_GROUP, Interval, RungResult, Scored, StudyResult
from fallow.report.data import ReportData
from fallow.report.explain import learned_beside, probe_there, rung_in_words
from fallow.report.words import duration, percent, plural, points, rung_title

if TYPE_CHECKING:
    import numpy as np

    from fallow.augment import ReachRow

MATRIX_CLASSES = 30
"""Above so many classes a matrix cannot be read any more, and only the top confusions are listed."""
TRESPASS_LIMIT = 0.1


Tone: TypeAlias = Literal["", "better", "worse", "neutral"]


@dataclass(frozen=True)
class Tile:
    """A key figure: what it is, the figure, what it is compared with, how it was measured.

    Attributes:
        tone: What its color says: ``better``, ``worse``, or ``neutral``: nothing. Empty: the first tile of a page stands out.
    """

    title: str
    figure: str
    note: str = ""
    small: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Step:
    """A row of the waterfall; places are in percent of the bar's width."""

    name: str
    meaning: str
    chosen: bool
    baseline: bool
    error: str
    interval: str
    gain: str
    better: str
    test: str
    """Error on the test images, comparable with the bar."""
    seconds: str
    note: str
    behind: str = ""
    """How many images and folds are behind the bar."""
    width: float | None = None
    low: float = 0.0
    high: float = 0.0
    ghost: float = 0.0
    """Where the best error before ended: the bar is drawn faintly from here to its own end."""
    worse: bool = False
    spoken: str = ""


@dataclass(frozen=True)
class Cell:
    """One transform at one strength, in percent."""

    reach: int
    trespass: int
    n: int
    moved: float
    furthest: bool


@dataclass(frozen=True)
class ReachLine:
    """One transform over all strengths; None where it was not measured."""

    name: str
    physical: str
    graded: bool
    cells: tuple[Cell | None, ...]
    advice: str


@dataclass(frozen=True)
class Confusion:
    """``count`` images of class ``truth`` were taken for ``guess``; ``share`` is of the class."""

    truth: str
    guess: str
    count: int
    total: int
    share: float


def tiles(data: ReportData) -> list[Tile]:
    """Return the key figures, the most important first."""
    result, found = data.result, []
    if result.chosen.test is not None:
        note = f"on {plural(result.counts.test, 'image')} kept apart until the choice was final"
        found.append(Tile("Test accuracy", percent(result.chosen.test), _against(result, "test"), note))
    held = result.chosen.held_out
    if held is not None:
        note = f"95 % interval {100 * held.low:.1f} to {100 * held.high:.1f}, from {plural(held.n, 'label')}"
        found.append(Tile("Held-out accuracy", percent(held.value), _against(result, "held_out"), note))
    if result.worth_labels:
        note = "what a linear model would need on top to do as well, by its learning curve"
        figure = f"≈ {plural(result.worth_labels, 'label')}"
        found.append(Tile(f"The {learned_beside(result)} were worth", figure, small=note))
    of = f"of {duration(data.budget_seconds)}, " if data.budget_seconds else ""
    found.append(Tile("Time", duration(result.seconds), small=f"{of}until this page was made"))
    return found


def _against(result: StudyResult, where: str) -> str:
    def value(scored: Scored) -> float | None:
        if where == "test":
            return scored.test
        return scored.held_out.value if scored.held_out else None

    mine, base = value(result.chosen), value(result.labels_only)
    balanced = result.chosen.balanced_test if where == "test" else result.chosen.balanced_held_out
    parts = []
    if result.chosen.rung == result.labels_only.rung:
        parts.append("from labels alone")
    elif mine is not None and base is not None:
        change = round(100 * (mine - base), 1)
        parts.append(f"labels only {percent(base)} ({'+' if change >= 0 else '−'}{abs(change):.1f})")
    if balanced is not None and mine is not None and abs(balanced - mine) >= 0.005:
        parts.append(f"{percent(balanced)} with all classes counted alike")
    return "; ".join(parts)


def scale_of(result: StudyResult) -> float:
    """Return the error at the right end of the bars."""
    return max([e.high for e in _errors(result).values()] or [1.0]) or 1.0


def _errors(result: StudyResult) -> dict[str, Interval]:
    errors = {rung.rung: _error(rung.held_out) for rung in result.rungs if rung.held_out}
    return errors | {bar.rung: bar.error for bar in result.waterfall.bars}


def steps(result: StudyResult) -> list[Step]:
    """Return the waterfall: a row for each rung, in the order in which they were climbed."""
    errors, scale = _errors(result), scale_of(result)
    folds = {bar.rung: bar.folds for bar in result.waterfall.bars}
    unequal = len({(e.n, folds.get(name)) for name, e in errors.items()}) > 1
    best: float | None = None
    rows = []
    for rung in result.rungs:
        error = errors.get(rung.rung)
        row = _step(rung, result, error, scale, best)
        if unequal and error is not None:
            row = replace(row, behind=_behind(error.n, folds.get(rung.rung, 0)))
        rows.append(row)
        if error is not None:
            value = error.value
            best = value if best is None else min(best, value)
    return rows


def _behind(n: int, folds: int) -> str:
    return plural(n, "image") + (f", {plural(folds, 'held-out fit')}" if folds else "")


def _error(accuracy: Interval) -> Interval:
    return Interval(1 - accuracy.value, 1 - accuracy.high, 1 - accuracy.low, accuracy.n)


def _step(
    rung: RungResult, result: StudyResult, error: Interval | None, scale: float, best: float | None
) -> Step:
    baseline = rung.rung == result.labels_only.rung
    shared: dict[str, Any] = {
        "name": rung_title(rung.rung),
        "meaning": rung_in_words(rung.rung),
        "chosen": rung.rung == result.chosen.rung,
        "baseline": baseline,
        "gain": "" if baseline or rung.gain is None else points(rung.gain),
        "better": "" if rung.p_better is None else percent(rung.p_better, 0),
        "test": "" if rung.test is None else percent(1 - rung.test),
        "seconds": duration(rung.seconds),
        "note": " ".join(filter(None, (rung.note, probe_there(rung, result)))),
    }
    if error is None:
        return Step(**shared, error="not measured", interval="")
    value = 100 * error.value / scale
    ghost = value if best is None else 100 * best / scale
    interval = f"{100 * error.low:.1f} to {100 * error.high:.1f}"
    return Step(
        **shared,
        error=percent(error.value),
        interval=interval,
        width=round(value, 2),
        low=round(100 * error.low / scale, 2),
        high=round(min(100 * error.high / scale, 100), 2),
        ghost=round(ghost, 2),
        worse=ghost < value,
        spoken=f"error {percent(error.value)}, 95 % interval {interval}, {plural(error.n, 'image')}",
    )


def why_no_held_out(result: StudyResult) -> str:
    """Return why there are no bars, or an empty string when there are."""
    if result.waterfall.bars or any(rung.held_out for rung in result.rungs):
        return ""
    grouped = result.why_unmeasured == ONE_GROUP
    cure = "images of at least two groups" if grouped else "at least two images"
    return (
        f"There are no bars: with {result.why_unmeasured} nothing can be held out, so errors cannot be measured. "
        f"What was chosen follows from earlier measurements on other data sets. Label {cure} of "
        "each class to see them."
    )


def reach_table(rows: Sequence[ReachRow]) -> tuple[list[float], list[ReachLine]]:
    """Return the strengths and one line for each transform; empty without rows."""
    from fallow.augment import TRANSFORMS, furthest

    strengths = sorted({row.strength for row in rows if _graded(row.transform)}) or [1.0]
    best = furthest(rows, TRESPASS_LIMIT) if rows else {}
    lines = []
    for name in dict.fromkeys(row.transform for row in rows):
        cells = {row.strength: row for row in rows if row.transform == name}
        graded = _graded(name)
        wanted = strengths if graded else [max(cells)]
        lines.append(
            ReachLine(
                name,
                TRANSFORMS[name].range if name in TRANSFORMS else "",
                graded,
                tuple(_cell(cells[s], best.get(name) == s) if s in cells else None for s in wanted),
                _advice(name, graded, best.get(name), max(cells)),
            )
        )
    return (strengths, lines) if rows else ([], [])


def _graded(name: str) -> bool:
    from fallow.augment import TRANSFORMS

    return name not in TRANSFORMS or TRANSFORMS[name].graded


def _cell(row: ReachRow, furthest: bool) -> Cell:
    return Cell(round(100 * row.reach), round(100 * row.trespass), row.n, row.moved, furthest)


def _advice(name: str, graded: bool, best: float | None, last: float) -> str:
    if best is None:
        return "leave off"
    if not graded:
        return "fine"
    return "fine at any strength" if best == last else f"fine up to {best:g}"


def confusions(matrix: np.ndarray | None, classes: Sequence[str], most: int) -> list[Confusion]:
    """Return the commonest confusions, most images first."""
    if matrix is None:
        return []
    totals = [int(t) for t in matrix.sum(1)]
    pairs = [
        Confusion(classes[i], classes[j], int(matrix[i, j]), totals[i], float(matrix[i, j]) / totals[i])
        for i in range(len(classes))
        for j in range(len(classes))
        if i != j and matrix[i, j] > 0
    ]
    return sorted(pairs, key=lambda c: (-c.count, -c.share))[:most]


def matrix_rows(matrix: np.ndarray | None, classes: Sequence[str]) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return the matrix as (class, [(count, percent of the row)]); empty when too large to read."""
    if matrix is None or len(classes) > MATRIX_CLASSES:
        return []
    rows = []
    for name, row in zip(classes, matrix, strict=True):
        total = max(int(row.sum()), 1)
        rows.append((name, [(int(v), round(100 * int(v) / total)) for v in row]))
    return rows


def _listed(parts: Sequence[str], most: int = 8) -> str:
    """Join what can be taken in at a glance, and say how much more there is."""
    more = len(parts) - most
    return ", ".join(parts if more <= 1 else [*parts[:most], f"and {more} more"])


def flat(value: Any, limit: int = 300) -> str:
    """Return a JSON value as short text: numbers rounded, mappings as ``key value``."""
    if isinstance(value, bool) or value is None:
        text = {True: "yes", False: "no", None: "none"}[value]
    elif isinstance(value, float):
        text = f"{value:.3g}"
    elif isinstance(value, Mapping):
        text = _listed([f"{k} {flat(v)}" for k, v in value.items()])
    elif isinstance(value, list | tuple):
        text = _listed([flat(v) for v in value])
    else:
        text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
