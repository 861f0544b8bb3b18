"""The cluster map: the same images at the same places, colored by what each model takes them for."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fallow.report.data import MapPoint
from fallow.report.layout import MAX_POINTS
from fallow.types import Json, JsonObject

WIDTH, HEIGHT, MARGIN = 640, 520, 16
COLORS = 8
"""Colors of the palette, told apart with any color vision; more classes than that differ in shape as well."""
SHAPES = 4
_THUMB_BYTES = 4_500_000  # of all map thumbnails together: the page stays under 10 MB, base64 and all


@dataclass(frozen=True)
class Dot:
    """A point as drawn.

    Attributes:
        x: Place in the drawing, from the left.
        y: Place in the drawing, from the top.
        style: CSS classes: color, and ``lab`` for labeled, ``new`` where before and after differ.
        shape: 0..3, the marker.
        opacity: How sure; 1 for labeled points.
    """

    x: float
    y: float
    style: str
    shape: int
    opacity: float


@dataclass(frozen=True)
class Key:
    """One entry of the legend."""

    index: int
    name: str
    color: int
    shape: int
    count: int


@dataclass(frozen=True)
class ClusterMap:
    """Everything that the page needs to draw the map.

    Attributes:
        panels: One or two titles with their dots; one when before and after are the same thing.
        keys: The legend.
        json: For hover and filters: places, names and pictures.
        summary: What there is to see, in a sentence.
        labeled: Labeled images drawn.
    """

    panels: tuple[tuple[str, tuple[Dot, ...]], ...]
    keys: tuple[Key, ...]
    json: JsonObject
    summary: str
    labeled: int = 0


def cluster_map(
    points: Sequence[MapPoint], classes: Sequence[str], names: tuple[str, str], same: bool = False
) -> ClusterMap | None:
    """Turn points into drawings and the data behind them; None without points.

    Args:
        points: What to draw; labeled points lie on top.
        classes: Class names; their order gives colors and shapes.
        names: Titles of the two panels.
        same: Before and after are one model: one panel is enough.
    """
    labeled = [p for p in points if p.kind == "labeled"]
    shown = [*(p for p in points if p.kind != "labeled"), *labeled[:MAX_POINTS]]  # labeled last: drawn on top
    shown = shown[-MAX_POINTS:]
    if not shown:
        return None
    index = {name: i for i, name in enumerate(classes)}
    for p in shown:
        for name in (p.label, p.before_label, p.after_label):
            if name is not None:
                index.setdefault(name, len(index))
    where = _places(shown)
    befores = [p.label if p.kind == "labeled" else p.before_label for p in shown]
    afters = [p.label if p.kind == "labeled" else p.after_label for p in shown]
    has_after = any(p.after_label is not None for p in shown)
    two = has_after and not same and any(p.before_label is not None for p in shown)
    last = afters if has_after else befores
    colors = _colors(where, [None if name is None else index[name] for name in last], len(index))
    changed = [two and b != a for b, a in zip(befores, afters, strict=True)]
    panels: list[tuple[str, tuple[Dot, ...]]] = []
    if two or not has_after:
        sure = [p.before_confidence for p in shown]
        panels.append((names[0], _dots(shown, where, befores, sure, index, colors, changed)))
    if has_after:
        sure = [p.after_confidence for p in shown]
        panels.append((names[1], _dots(shown, where, afters, sure, index, colors, changed)))
    counts = Counter(name for name in last if name is not None)
    keys = tuple(
        Key(i, name, colors[i], _shape(i), counts[name]) for name, i in index.items() if name in counts
    )
    data: JsonObject = {
        "x": [round(x, 1) for x, _ in where],
        "y": [round(y, 1) for _, y in where],
        "id": [p.id for p in shown],
        "lab": [int(p.kind == "labeled") for p in shown],
        "classes": list(index),
        "before": [_seen(name, p.before_confidence, index) for name, p in zip(befores, shown, strict=True)],
        "after": [_seen(name, p.after_confidence, index) for name, p in zip(afters, shown, strict=True)],
        "changed": [int(c) for c in changed],
        "names": list(names),
        "thumbs": list(_thumbs(shown)),
    }
    drawn = sum(data["lab"])  # type: ignore[arg-type]
    return ClusterMap(tuple(panels), keys, data, _summary(shown, sum(changed), two), drawn)


def _places(points: Sequence[MapPoint]) -> list[tuple[float, float]]:
    """Scale all points into the drawing, the two directions alike."""
    xs, ys = [p.x for p in points], [p.y for p in points]
    wide, high = max(max(xs) - min(xs), 1e-9), max(max(ys) - min(ys), 1e-9)
    scale = min((WIDTH - 2 * MARGIN) / wide, (HEIGHT - 2 * MARGIN) / high)
    middle_x, middle_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return [(WIDTH / 2 + (p.x - middle_x) * scale, HEIGHT / 2 - (p.y - middle_y) * scale) for p in points]


def _shape(index: int) -> int:
    return index // COLORS % SHAPES


def _colors(where: Sequence[tuple[float, float]], classes: Sequence[int | None], count: int) -> list[int]:
    """Give each class a color so that neighbors on the map differ; each shape has each color once.

    Shape after shape, colors are assigned so that classes of one color lie far apart: the sum of inverse
    squared distances between their middles is least.
    """
    from scipy.optimize import linear_sum_assignment

    places = np.asarray(where, dtype=np.float64)
    labels = np.array([-1 if c is None else c for c in classes])
    middles = {int(c): np.median(places[labels == c], axis=0) for c in np.unique(labels[labels >= 0])}
    colors = list(range(min(count, COLORS)))
    for start in range(COLORS, count, COLORS):
        layer = range(start, min(start + COLORS, count))
        cost = np.zeros((len(layer), COLORS))
        for row, c in enumerate(layer):
            for other, color in enumerate(colors):
                if c in middles and other in middles:
                    apart = float(((middles[c] - middles[other]) ** 2).sum())
                    cost[row, color] += 1 / max(apart, 1.0)
        colors += [int(color) for color in linear_sum_assignment(cost)[1]]
    return colors


def _dots(
    points: Sequence[MapPoint],
    where: Sequence[tuple[float, float]],
    labels: Sequence[str | None],
    confidences: Sequence[float],
    index: dict[str, int],
    colors: Sequence[int],
    changed: Sequence[bool],
) -> tuple[Dot, ...]:
    dots: list[Dot] = []
    rows = zip(points, where, labels, confidences, changed, strict=True)
    for point, (x, y), label, confidence, new in rows:
        i = -1 if label is None else index[label]
        style = f"k{colors[i]}" if i >= 0 else "kn"
        style += " lab" if point.kind == "labeled" else " new" if new else ""
        opacity = 1.0 if point.kind == "labeled" else 0.2 + 0.75 * min(max(confidence, 0.0), 1.0) ** 1.5
        dots.append(Dot(round(x, 1), round(y, 1), style, _shape(i) if i >= 0 else 0, round(opacity, 2)))
    return tuple(dots)


def _seen(name: str | None, confidence: float, index: dict[str, int]) -> Json:
    return None if name is None else [index[name], round(float(confidence), 3)]


def _thumbs(points: Sequence[MapPoint]) -> list[str]:
    """Return base64 pictures, labeled points first served, until their allowance is used up."""
    result, left = [""] * len(points), _THUMB_BYTES
    for i in reversed(range(len(points))):
        thumb = points[i].thumb
        if thumb is not None and len(thumb) <= left:
            left -= len(thumb)
            result[i] = base64.b64encode(thumb).decode("ascii")
    return result


def _summary(points: Sequence[MapPoint], changed: int, two: bool) -> str:
    labeled = sum(p.kind == "labeled" for p in points)
    pool = len(points) - labeled
    text = f"{labeled:,} labeled and {pool:,} unlabeled images"
    return f"{text}; {changed:,} of the unlabeled are taken for another class than before" if two else text
