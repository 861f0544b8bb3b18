"""Images through a deployed model, many at a time and few in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fallow.export import Deployed

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
    from fallow.data import ImageError

    reasons: dict[int, str] = {}

    def attempt(numbered: tuple[int, Key]) -> npt.NDArray[np.uint8] | None:
        number, key = numbered
        try:
            return read(key)
        except ImageError as error:
            reasons[number] = error.reason
        except OSError as error:
            reasons[number] = f"it cannot be opened ({error.strerror or error})"
        return None

    for (number, key), probs in model.stream(enumerate(keys), attempt):
        yield Looked(key, probs, reasons.pop(number, ""))
