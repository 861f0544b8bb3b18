"""How many images of each class are in the pool? Estimated, never assumed equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Probs = NDArray[np.floating]


def estimate_mix(
    probs: Probs, source_mix: Probs | None = None, *, prior_rows: float = 2.0, max_steps: int = 100
) -> NDArray[np.float64]:
    """Estimate class proportions from posteriors by EM (Saerens et al., Neural Computation 2002), shrunk to
    equal.

    The posteriors' model was fitted where classes had the proportions ``source_mix``. EM alternates between
    reweighting the posteriors to the current estimate and averaging them; ``prior_rows`` pretended images of
    each class keep a class from vanishing and pull a small pool to equal proportions.

    Args:
        probs: (n, c) class probabilities of the pool, calibrated; rows sum to 1.
        source_mix: (c,) proportions behind ``probs``; default: equal.
        prior_rows: Pretended images per class.
        max_steps: EM steps at most.

    Returns:
        (c,) float64, positive, sums to 1.
    """
    n, c = probs.shape
    equal = np.full(c, 1.0 / c)
    if n == 0:
        return equal
    source = equal if source_mix is None else np.maximum(np.asarray(source_mix, np.float64), 1e-12)
    ratio_base = probs.astype(np.float64) / source
    mix = _shrunk(probs.sum(axis=0, dtype=np.float64), prior_rows)
    for _ in range(max_steps):
        joint = ratio_base * mix
        total = joint.sum(axis=1, keepdims=True)
        posterior = np.where(total > 0, joint / np.maximum(total, 1e-300), mix)
        updated = _shrunk(posterior.sum(axis=0), prior_rows)
        moved = float(np.abs(updated - mix).max())
        mix = updated
        if moved < 1e-6:
            break
    return mix


def _shrunk(counts: NDArray[np.float64], prior_rows: float) -> NDArray[np.float64]:
    padded = counts + prior_rows
    return np.asarray(padded / padded.sum(), dtype=np.float64)
