"""What the teachers say of every image: each is asked once, and the answers are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from fallow.config import DistillConfig
from fallow.errors import ConfigError, DataError, nearest
from fallow.export import FEATURES, PROBS
from fallow.record.rundir import atomic_path
from fallow.study.outside import OutsideModel, RunModel, open_model
from fallow.study.rung import ImageSet
from fallow.types import Progress

Array = NDArray[np.float32]
_KINDS = "kinds"


@dataclass(frozen=True)
class Taught:
    """What teachers said.

    Attributes:
        probs: Class probabilities of each image, (n, classes).
        features: The first teacher's features, (n, dim); without columns where nobody asked for them.
        kinds: What the answers of each were taken for, ``probabilities`` or ``logits``.
    """

    probs: Array
    features: Array
    kinds: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write everything into one file."""
        with atomic_path(path) as temporary:
            arrays = {"probs": self.probs, "features": self.features}
            save_file(arrays, temporary, metadata={_KINDS: json.dumps(self.kinds)})

    @classmethod
    def load(cls, path: Path) -> Taught:
        """Read what `save` wrote."""
        with safe_open(path, framework="numpy") as file:
            kinds = json.loads(file.metadata()[_KINDS])
            return cls(file.get_tensor("probs"), file.get_tensor("features"), tuple(kinds))


def open_teachers(
    given: Sequence[Any], config: DistillConfig, classes: tuple[str, ...], data: str
) -> list[OutsideModel]:
    """Open all teachers.

    Args:
        given: Runs, ONNX files, torch modules or functions.
        config: How those that are no runs are fed and read.
        classes: Classes of the data, in order.
        data: The data as the user named them.

    Raises:
        FallowError: One cannot be used, speaks of other classes, or has no features that a student could follow.
    """
    teachers = [open_model(one, config, classes) for one in given]
    for teacher in teachers:
        _check_classes(teacher, classes, data)
    if config.distillation.features and not isinstance(teachers[0], RunModel):
        raise ConfigError(
            f"distillation.features: the teacher '{teachers[0].name}' gives answers only; a student follows the features of a run of "
            "fallow, given first"
        )
    return teachers


def _check_classes(teacher: OutsideModel, classes: Sequence[str], data: str) -> None:
    unknown = sorted(set(classes) - set(teacher.classes))
    if unknown:
        raise DataError(
            f"the teacher '{teacher.name}' does not know the class '{unknown[0]}' of '{data}': distill it with "
            f"the data that it was trained on.{nearest(unknown[0], teacher.classes)}"
        )
    missing = sorted(set(teacher.classes) - set(classes))
    if missing:
        raise DataError(
            f"'{data}' has no labeled image of the class '{missing[0]}' that the teacher '{teacher.name}' knows: "
            "give at least one of each"
        )


def ask(
    teachers: Sequence[OutsideModel],
    images: ImageSet,
    classes: Sequence[str],
    *,
    with_features: bool = False,
    kinds: Sequence[str] = (),
    progress: Progress,
) -> Taught:
    """Return what the teachers say of images; several are averaged in their log-probabilities, as an ensemble is.

    Args:
        teachers: All know the same classes.
        images: What they are asked.
        classes: In the order that the answers are wanted in.
        with_features: Keep the first one's features too; it is a `RunModel`.
        kinds: What the answers of each are, once that was seen; seen from these answers where nobody says.
        progress: Who watches.
    """
    total = len(images) * len(teachers)
    logs: Array = np.zeros((len(images), len(classes)), np.float32)
    features: Array = np.zeros((len(images), 0), np.float32)
    found: list[str] = []
    for number, teacher in enumerate(teachers):

        def watch(done: int, before: int = number * len(images)) -> None:
            progress("ask the teacher", before + done, total)

        if with_features and isinstance(teacher, RunModel) and number == 0:
            raw, features = _with_features(teacher, images, watch)
        else:
            raw = _answers(teacher, images, watch)
        found.append(kinds[number] if kinds else teacher.kind([raw]))
        order = [teacher.classes.index(name) for name in classes]
        logs += np.log(teacher.probs(raw, found[number])[:, order] + 1e-8) / len(teachers)
    probs = np.exp(logs)
    return Taught(np.asarray(probs / probs.sum(1, keepdims=True), np.float32), features, tuple(found))


def _answers(teacher: OutsideModel, images: ImageSet, watch: Callable[[int], None]) -> Array:
    rows = []
    for row in teacher.answers(images):
        rows.append(row)
        watch(len(rows))
    return np.stack(rows)


def _with_features(teacher: RunModel, images: ImageSet, watch: Callable[[int], None]) -> tuple[Array, Array]:
    probs, features = [], []
    for _, said in teacher.deployed.answers(images.ids, images.read, (PROBS, FEATURES)):
        assert said is not None  # the audit has read every image
        probs.append(said[0])
        features.append(said[1])
        watch(len(probs))
    return np.stack(probs), np.stack(features)
