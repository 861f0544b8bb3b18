"""Would a richer map than one temperature calibrate better? Asked of finished runs, on what their folds said.

    python benchmarks/calibration.py runs/one runs/two ...

Each map is fitted on four fifths of the labeled images and scored on the others. Printed for each rung: log-loss, its
paired difference to the temperature with its 95 % interval over images, calibration error and accuracy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from fallow.models import fit_temperature
from fallow.study.calibrate import calibration_error
from fallow.study.evidence import tempered

Array = NDArray[np.float64]
Map = Callable[[Array], Array]
TINY, PARTS, REPEATS = 1e-12, 5, 3


def temperature(logs: Array, y: NDArray[np.int64]) -> Map:
    value = fit_temperature(logs, y, prior_rows=40)
    return lambda new: tempered(np.exp(new), value)


def isotonic(logs: Array, y: NDArray[np.int64]) -> Map:
    """A rising step function of the highest probability; the others share the rest as before."""
    even = fit_temperature(logs, y, prior_rows=0)
    probs, edge = tempered(np.exp(logs), even), 1 / (len(y) + 2)
    steps = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    steps.fit(probs.max(1), probs.argmax(1) == y)

    def apply(new: Array) -> Array:
        made = tempered(np.exp(new), even)
        first, top = made.argmax(1), made.max(1)
        wanted = steps.predict(top)
        made *= ((1 - wanted) / np.maximum(1 - top, 1e-9))[:, None]
        made[np.arange(len(made)), first] = wanted
        return np.asarray(made / made.sum(1, keepdims=True), np.float64)

    return apply


def vector(pull: float) -> Callable[[Array, NDArray[np.int64]], Map]:
    """A scale and a bias of each class on the log-probabilities, pulled to 1 and 0."""

    def fit(logs: Array, y: NDArray[np.int64]) -> Map:
        count, truth = logs.shape[1], np.eye(logs.shape[1])[y]
        even = fit_temperature(logs, y, prior_rows=0)

        def probs(found: Array, new: Array) -> Array:
            return tempered(softmax(new / even * found[:count] + found[count:]), 1.0)

        def loss(found: Array) -> tuple[float, Array]:
            made = probs(found, logs)
            off = found - np.repeat((1.0, 0.0), count)
            slope = np.concatenate([((made - truth) * logs / even).sum(0), (made - truth).sum(0)])
            return -np.log(np.maximum(made[truth > 0], TINY)).sum() + pull * (
                off @ off
            ) / 2, slope + pull * off

        found = minimize(loss, np.repeat((1.0, 0.0), count), jac=True, method="L-BFGS-B").x
        return lambda new: probs(found, new)

    return fit


def softmax(logits: Array) -> Array:
    made = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(made / made.sum(1, keepdims=True), np.float64)


MAPS = {
    "none": lambda logs, y: softmax,
    "temperature": temperature,
    "isotonic": isotonic,
    "vector, pull 10": vector(10),
    "vector, pull 100": vector(100),
}


def crossed(fit: Callable[..., Map], logs: Array, y: NDArray[np.int64], part: NDArray[np.int64]) -> Array:
    made = np.zeros_like(logs)
    for p in range(PARTS):
        made[part == p] = fit(logs[part != p], y[part != p])(logs[part == p])
    return made


def main(runs: list[str]) -> None:
    for run in runs:
        table = pq.read_table(Path(run) / "out_of_fold.parquet")
        rungs = np.array(table["rung"].to_pylist())
        for rung in dict.fromkeys(rungs.tolist()):
            rows = table.filter(rungs == rung)
            y = np.array(rows["label"].to_pylist())
            logs = np.log(np.maximum(np.array(rows["probs"].to_pylist()), TINY))
            ids, image = np.unique(rows["id"].to_pylist(), return_inverse=True)
            print(f"{run} {rung}, {len(ids)} labels, {logs.shape[1]} classes")
            losses: dict[str, Array] = {}
            told = {}
            for name, fit in MAPS.items():
                rng, each = np.random.default_rng(0), []
                for _ in range(REPEATS):
                    made = crossed(fit, logs, y, rng.integers(0, PARTS, len(ids))[image])
                    loss = -np.log(np.maximum(made[np.arange(len(y)), y], TINY))
                    each.append((loss, calibration_error(made, y), float((made.argmax(1) == y).mean())))
                mean = np.mean([loss for loss, _, _ in each], 0)
                losses[name] = np.bincount(image, mean) / np.bincount(image)
                told[name] = [float(np.mean([one[k] for one in each])) for k in (1, 2)]
            for name, loss in losses.items():
                gap = loss - losses["temperature"]
                spread = 1.96 * gap.std() / len(gap) ** 0.5
                print(
                    f"  {name:<17} log-loss {loss.mean():.4f} ({gap.mean():+.4f} +-{spread:.4f})  "
                    f"calibration error {told[name][0]:.4f}  accuracy {told[name][1]:.4f}"
                )


if __name__ == "__main__":
    main(sys.argv[1:])
