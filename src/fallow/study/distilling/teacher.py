"""What the teacher says of every image: asked once, through its exported file, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fallow.errors import DataError, nearest
from fallow.export import FEATURES, PROBS, Deployed
from fallow.record.rundir import atomic_path
from fallow.study.rung import ImageSet
from fallow.types import Progress

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Taught:
    """What a teacher said.

    Attributes:
        probs: Class probabilities of each image, (n, classes).
        features: The first teacher's features, (n, dim); without columns where nobody asked for them.
    """

    probs: Array
    features: Array


def check_teachers(teachers: Sequence[Deployed], classes: Sequence[str], data: str) -> None:
    """Make sure that teachers and labels speak of the same classes.

    Raises:
        DataError: They do not.
    """
    for teacher in teachers:
        unknown = sorted(set(classes) - set(teacher.classes))
        if unknown:
            raise DataError(
                f"the teacher '{teacher.directory}' does not know the class '{unknown[0]}' of '{data}': distill it with "
                f"the data that it was trained on.{nearest(unknown[0], teacher.classes)}"
            )
        missing = sorted(set(teacher.classes) - set(classes))
        if missing:
            raise DataError(
                f"'{data}' has no labeled image of the class '{missing[0]}' that the teacher '{teacher.directory}' knows: "
                "give at least one of each"
            )


def ask(
    teachers: Sequence[Deployed],
    images: ImageSet,
    classes: Sequence[str],
    *,
    with_features: bool,
    kept: Path | None,
    progress: Progress,
) -> Taught:
    """Return what the teachers say of images; several are averaged in their log-probabilities, as an ensemble is.

    Args:
        teachers: All know the same classes.
        images: What they are asked.
        classes: In the order that the answers are wanted in.
        with_features: Keep the first one's features too.
        kept: Where the answers are written, and read when they are there already.
        progress: Who watches.
    """
    if kept is not None and kept.is_file():
        found = load_file(kept)
        return Taught(found["probs"], found["features"])
    total = len(images) * len(teachers)
    logs: Array = np.zeros((len(images), len(classes)), np.float32)
    features: list[Array] = []
    for number, teacher in enumerate(teachers):
        order = [teacher.classes.index(name) for name in classes]
        wanted = (PROBS, FEATURES) if with_features and number == 0 else (PROBS,)
        for row, (_, said) in enumerate(teacher.answers(images.ids, images.read, wanted)):
            assert said is not None  # the audit has read every image
            logs[row] += np.log(said[0][order] + 1e-8) / len(teachers)
            features += said[1:]
            progress("ask the teacher", number * len(images) + row + 1, total)
    probs = np.exp(logs)
    dense = np.stack(features) if features else np.zeros((len(images), 0), np.float32)
    taught = Taught(np.asarray(probs / probs.sum(1, keepdims=True), np.float32), dense)
    if kept is not None:
        with atomic_path(kept) as temporary:
            save_file({"probs": taught.probs, "features": taught.features}, temporary)
    return taught
