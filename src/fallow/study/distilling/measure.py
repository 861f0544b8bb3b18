"""What a student kept of its teacher: accuracy, speed and size, measured side by side from the files that leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fallow.export import Deployed
from fallow.record import Interval
from fallow.record.rundir import append_line
from fallow.study.choose import accuracy_interval, gain_interval
from fallow.study.data import StudyData
from fallow.study.rung import ImageSet
from fallow.types import JsonObject, Progress

_ASIDE_SHARE, _ASIDE_MOST = 0.1, 500
"""Share of the unlabeled images, up to some, that a student does not learn from where no test split can tell what it kept."""
Said = NDArray[np.float32]
Ask = Callable[[ImageSet, Progress], Said]
"""Returns what a model says of images, (n, classes)."""


@dataclass(frozen=True)
class Measured:
    """One model.

    Attributes:
        accuracy: On the test split, with its 95 % interval; None without one.
        agreement: Share of images on which it names the class that the teacher names; 1 for the teacher itself.
        latency_ms: What one image takes in ONNX Runtime, from its pixels to probabilities; None where nobody timed it.
        bytes: Size of its file, of all of them where several teach; None where one has no file.
        params: Its weights; None where nobody counted them.
    """

    accuracy: Interval | None
    agreement: float
    latency_ms: float | None
    bytes: int | None
    params: int | None = None

    def to_json(self) -> JsonObject:
        """Return the figures as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Kept:
    """What a student kept.

    Attributes:
        models: ``teacher``, ``student`` and, where it was made, ``int8``.
        difference: Accuracy of the student minus the teacher's on the same test images, with its 95 % interval; None
            without a test split.
        images: On how many images all were compared.
        on: ``test``, or ``aside`` for unlabeled images that the student did not learn from.
    """

    models: Mapping[str, Measured]
    difference: Interval | None
    images: int
    on: str


def compare_models(
    said: Mapping[str, Said],
    truth: NDArray[np.int64] | None,
    files: Mapping[str, Sequence[Path | None]],
    speeds: Mapping[str, float],
    params: Mapping[str, int],
    seed: int,
) -> Kept:
    """Return all figures of models that looked at the same images.

    Args:
        said: What each said, ``teacher`` first, (n, classes).
        truth: The true classes, (n,); None where nobody knows them.
        files: The files of each; None for what has none.
        speeds: Milliseconds an image, of those that were timed.
        params: Weights of those that were counted.
        seed: Of the resampling.
    """
    named = {name: probs.argmax(1) for name, probs in said.items()}
    right = {} if truth is None else {name: (one == truth).astype(float) for name, one in named.items()}
    models = {
        name: Measured(
            accuracy_interval(right[name]) if name in right else None,
            float((one == named["teacher"]).mean()),
            speeds.get(name),
            _bytes(files[name]),
            params.get(name),
        )
        for name, one in named.items()
    }
    difference = gain_interval(right["student"], right["teacher"], seed=seed) if right else None
    return Kept(models, difference, len(named["teacher"]), "aside" if truth is None else "test")


def _bytes(files: Sequence[Path | None]) -> int | None:
    sizes = [None if file is None else file.stat().st_size for file in files]
    return None if None in sizes else sum(size or 0 for size in sizes)


def ask_all(
    models: Mapping[str, Ask],
    images: ImageSet,
    reads: Path | None,
    progress: Progress,
) -> dict[str, Said]:
    """Return what each model says of images; a read of the test split is written down before it happens."""
    said = {}
    for name, ask in models.items():
        if reads is not None:
            now = time.strftime("%Y-%m-%dT%H:%M:%S")
            append_line(reads, {"time": now, "rung": name, "images": len(images)})
        said[name] = ask(images, progress)
    return said


def through(deployed: Deployed, images: ImageSet, what: str, progress: Progress) -> Said:
    """Return what an exported model says of images, each on its own, (n, classes)."""
    said: Said = np.zeros((len(images), len(deployed.classes)), np.float32)
    for row, (_, probs) in enumerate(deployed.stream(images.ids, images.read)):
        assert probs is not None  # the audit has read every image
        said[row] = probs
        progress(f"{what}: images", row + 1, len(images))
    return said


def set_aside(data: StudyData) -> tuple[tuple[str, ...], StudyData]:
    """Set images aside that tell what a student kept, where there is no test split; every tenth, the labeled ones never."""
    if data.test_ids:
        return (), data
    labeled = set(data.labeled_ids)
    unlabeled = [i for i in data.pool_ids if i not in labeled]
    count = min(_ASIDE_MOST, int(_ASIDE_SHARE * len(unlabeled)))
    if not count:
        return data.labeled_ids, data
    aside = tuple(unlabeled[:: max(1, len(unlabeled) // count)][:count])
    gone = set(aside)
    return aside, replace(data, pool_ids=tuple(i for i in data.pool_ids if i not in gone))
