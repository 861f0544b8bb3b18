"""Features made comparable: centered and scaled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_TINY = 1e-7


def standardized(features: NDArray[np.floating], like: NDArray[np.floating]) -> Array:
    """Return features centered and scaled so that those of ``like`` have a mean length of 1: any network's alike."""
    mean = like.mean(0)
    scale = float(np.linalg.norm(like - mean, axis=1).mean()) + _TINY
    return np.asarray((features - mean) / scale, np.float32)
