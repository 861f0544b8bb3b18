"""Images through a deployed model, many at a time and few in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fallow.export import Deployed

_IMAGES = 64
_VALUES = 3 * 2**26
"""Pixel values that may wait for the model: 64 photos of a megapixel, or one of 64 megapixels."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class Looked(Generic[Key]):
    """What the model says of one image.

    Attributes:
        key: What was asked about.
        probs: Probability of each class; None when the image could not be read.
        error: Why it could not be read.
    """

    key: Key
    probs: npt.NDArray[np.float32] | None = None
    error: str = ""


def look(
    model: Deployed, keys: Iterable[Key], read: Callable[[Key], npt.NDArray[np.uint8]]
) -> Iterator[Looked[Key]]:
    """Yield what ``model`` says of each image, in order; one that cannot be read carries the reason.

    Args:
        model: The model.
        keys: Which images.
        read: Returns the uint8 (height, width, 3) pixels of one; called from several threads.
    """
    from fallow.data import ImageError, default_workers, in_order

    def attempt(key: Key) -> tuple[Key, npt.NDArray[np.uint8] | None, str]:
        try:
            return key, read(key), ""
        except ImageError as error:
            return key, None, error.reason
        except OSError as error:
            return key, None, f"it cannot be opened ({error.strerror or error})"

    waiting: list[tuple[Key, npt.NDArray[np.uint8] | None, str]] = []
    values = 0
    for key, image, error in in_order(attempt, keys, default_workers()):
        waiting.append((key, image, error))
        values += 0 if image is None else image.size
        if len(waiting) == _IMAGES or values > _VALUES:
            yield from _answer(model, waiting)
            waiting, values = [], 0
    yield from _answer(model, waiting)


def _answer(
    model: Deployed, waiting: list[tuple[Key, npt.NDArray[np.uint8] | None, str]]
) -> Iterator[Looked[Key]]:
    rows = iter(model.predict_probs([image for _, image, _ in waiting if image is not None]))
    for key, image, error in waiting:
        yield Looked(key, error=error) if image is None else Looked(key, next(rows))
