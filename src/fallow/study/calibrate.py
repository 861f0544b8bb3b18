"""One temperature per rung, fitted on what its folds said of labels they had not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fallow.models import fit_temperature
from fallow.record import Decision
from fallow.study.evidence import OutOfFold, tempered
from fallow.types import RungName

PRIOR_LABELS = 40.0
"""Held-out labels that count as much as the belief that a model is calibrated as it is."""
_BINS = 10
_RULE = (
    "One temperature for all classes, which minimizes the log-loss on held-out labels and is pulled to 1 where these are "
    "few. The folds' models saw {share} of the labels and were less often right than the final one, so that its "
    "probabilities err on the modest side."
)


def calibrate(rung: RungName, evidence: OutOfFold, folds: int) -> tuple[float, Decision]:
    """Return the temperature of ``rung`` and why; 1 where nothing was held out.

    Args:
        rung: Name of the rung.
        evidence: Out-of-fold posteriors.
        folds: Parts that the labels were dealt into; 0 where one given split was held out.
    """
    where, logits = evidence.rows(rung)
    name = f"{rung}.temperature"
    if not len(where):
        return 1.0, Decision(
            name, 1.0, "rule", "Nothing could be held out, so that probabilities cannot be calibrated."
        )
    labels, distinct = evidence.y[where], len(np.unique(where))
    # Repeats ask the same labels again: the pull to 1 grows with them, as if each label were asked once.
    temperature = fit_temperature(logits, labels, prior_rows=PRIOR_LABELS * len(where) / distinct)
    temperature = round(temperature, 4)
    before, after = np.exp(logits), tempered(np.exp(logits), temperature)
    share = f"{(folds - 1) / folds:.0%}" if folds > 1 else "only a part"
    figures = {
        "labels": distinct,
        "predictions": len(where),
        "log_loss": [round(log_loss(before, labels), 4), round(log_loss(after, labels), 4)],
        "calibration_error": [
            round(calibration_error(before, labels), 4),
            round(calibration_error(after, labels), 4),
        ],
    }
    return temperature, Decision(name, temperature, "search", _RULE.format(share=share), figures)  # type: ignore[arg-type]


def log_loss(probs: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Return the mean negative log-probability of the true classes."""
    return float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-12)).mean())


def calibration_error(probs: NDArray[np.floating], labels: NDArray[np.int64], bins: int = _BINS) -> float:
    """Return the expected calibration error (Guo et al., ICML 2017): mean gap of confidence and accuracy over bins."""
    sure, right = probs.max(1), probs.argmax(1) == labels
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [
        abs(float(sure[place == b].mean()) - float(right[place == b].mean())) * float((place == b).mean())
        for b in np.unique(place)
    ]
    return float(sum(gaps))
