"""Views: what may be done to an image without changing its class, as the eight symmetries of the square.

View ``v`` flips left-right if ``v >= 4``, then turns by ``v % 4`` quarter turns counter-clockwise. The number
means the same in every set, so vectors that were computed for ``flip`` serve ``turns`` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fallow.errors import ConfigError, nearest

if TYPE_CHECKING:
    import torch

VIEWS: dict[str, tuple[int, ...]] = {"none": (0,), "flip": (0, 4), "turns": tuple(range(8))}
"""The sets by name: the image itself; itself and its mirror image; all quarter turns of both."""

IDENTITY, FLIP = 0, 4

Images = TypeVar("Images", "torch.Tensor", NDArray[np.float32], NDArray[np.uint8])


def view_indices(views: str) -> tuple[int, ...]:
    """Return the view numbers of the set ``views``.

    Raises:
        ConfigError: There is no such set.
    """
    try:
        return VIEWS[views]
    except KeyError:
        raise ConfigError(
            f"views cannot be '{views}': there are {', '.join(VIEWS)}.{nearest(views, VIEWS)}"
        ) from None


def apply_view(x: Images, index: int) -> Images:
    """Return view ``index`` of ``x`` (..., H, W), a tensor or an array; quarter turns need H = W."""
    if isinstance(x, np.ndarray):
        return np.rot90(x[..., ::-1] if index >= FLIP else x, index % 4, axes=(-2, -1))
    flipped = x.flip(-1) if index >= FLIP else x
    return flipped.rot90(index % 4, (-2, -1)) if index % 4 else flipped
