"""Answers drawn from a world whose every probability is known."""

from __future__ import annotations

import numpy as np

from fallow.study.labeling.evidence import HeldOut

CLASSES = 4


def answers(count: int, rng: np.random.Generator, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (count, classes) of a model, and classes drawn from them; ``sharp`` > 1 makes it too sure of itself."""
    logits = rng.normal(0, 2.2, (count, CLASSES))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (true.cumsum(1) < rng.random((count, 1))).sum(1).clip(max=CLASSES - 1)
    said = np.exp(sharp * logits)
    return (said / said.sum(1, keepdims=True)), y


def held_out(count: int, rng: np.random.Generator, sharp: float = 1.0, learned: float = 1.0) -> HeldOut:
    """Return one answer on each of ``count`` labels."""
    probs, y = answers(count, rng, sharp)
    return HeldOut(np.arange(count), probs, y.astype(np.int64), learned)
