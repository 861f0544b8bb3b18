"""The one table that the chooser reads: out-of-fold posteriors (image, rung, fold, probabilities)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fallow.record.rundir import atomic_path
from fallow.types import RungName

_TINY = 1e-12


def tempered(probs: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return probabilities (n, classes) whose logarithms are divided by ``temperature``."""
    if temperature == 1.0:
        return probs.astype(np.float64)
    logits = np.log(np.maximum(probs.astype(np.float64), _TINY)) / temperature
    scaled = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(scaled / scaled.sum(1, keepdims=True), np.float64)


class OutOfFold:
    """Posteriors of labeled images from models that never saw their labels.

    Args:
        ids: Labeled images.
        y: Their classes, (n,).
        classes: Number of classes.
    """

    def __init__(self, ids: tuple[str, ...], y: NDArray[np.int64], classes: int) -> None:
        self.ids, self.y, self.classes = ids, y, classes
        self._rows: dict[RungName, list[tuple[str, NDArray[np.int64], NDArray[np.float32]]]] = {}
        self._temperature: dict[RungName, float] = {}

    def add(self, rung: RungName, fold: str, held_out: NDArray[np.int64], probs: NDArray[np.float32]) -> None:
        """Add what ``rung`` said of the held-out positions of one fold; ``probs`` is (k, classes)."""
        self._rows.setdefault(rung, []).append((fold, held_out, probs.astype(np.float32)))

    def drop(self, rung: RungName) -> None:
        """Forget a rung that was given up."""
        self._rows.pop(rung, None)

    def folds(self, rung: RungName) -> int:
        """Return on how many folds ``rung`` was measured."""
        return len(self._rows.get(rung, []))

    def rows(self, rung: RungName) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return all that ``rung`` said, uncalibrated: positions (rows,) and log-probabilities (rows, classes).

        A position comes up once in each repeat.
        """
        rows = self._rows.get(rung, [])
        if not rows:
            return np.zeros(0, np.int64), np.zeros((0, self.classes))
        probs = np.concatenate([p for _, _, p in rows]).astype(np.float64)
        return np.concatenate([h for _, h, _ in rows]), np.log(np.maximum(probs, _TINY))

    def calibrate(self, rung: RungName, temperature: float) -> None:
        """Divide the log-probabilities of ``rung`` by ``temperature`` from now on; no guess changes by it."""
        self._temperature[rung] = temperature

    def probs(self, rung: RungName) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the positions that ``rung`` predicted and the mean calibrated posterior of each, (k,), (k, classes)."""
        total, seen = np.zeros((len(self.ids), self.classes)), np.zeros(len(self.ids))
        temperature = self._temperature.get(rung, 1.0)
        for _, held_out, probs in self._rows.get(rung, []):
            total[held_out] += tempered(probs, temperature)
            seen[held_out] += 1
        where = np.flatnonzero(seen)
        return where, total[where] / seen[where, None]

    def correct(
        self, rungs: tuple[RungName, ...]
    ) -> tuple[NDArray[np.int64], dict[RungName, NDArray[np.float64]]]:
        """Return the correctness of several rungs on the images that *all* of them predicted, in the same folds.

        Returns:
            Positions (k,), and per rung the mean over repeats of whether the image was named rightly, (k,).
        """
        shared = (
            set.intersection(*({fold for fold, _, _ in self._rows.get(r, [])} for r in rungs))
            if rungs
            else set()
        )
        result: dict[RungName, NDArray[np.float64]] = {}
        where = np.zeros(0, np.int64)
        for rung in rungs:
            total, seen = np.zeros(len(self.ids)), np.zeros(len(self.ids))
            for fold, held_out, probs in self._rows.get(rung, []):
                if fold in shared:
                    total[held_out] += probs.argmax(1) == self.y[held_out]
                    seen[held_out] += 1
            where = np.flatnonzero(seen)
            result[rung] = total[where] / seen[where]
        return where, result

    def write(self, path: Path) -> None:
        """Write the table as Parquet: probabilities as the folds gave them, and the temperature that calibrates them."""
        parts = [
            self._part(rung, fold, held_out, probs)
            for rung, rows in self._rows.items()
            for fold, held_out, probs in rows
        ]
        with atomic_path(path) as temporary:
            pq.write_table(pa.Table.from_batches(parts, self._schema), temporary)

    @property
    def _schema(self) -> pa.Schema:
        return pa.schema(
            {
                "id": pa.string(),
                "unit": pa.int64(),
                "rung": pa.string(),
                "fold": pa.string(),
                "label": pa.int64(),
                "probs": pa.list_(pa.float32(), self.classes),
                "temperature": pa.float64(),
            }
        )

    def _part(
        self, rung: RungName, fold: str, held_out: NDArray[np.int64], probs: NDArray[np.float32]
    ) -> pa.RecordBatch:
        """Return the rows of one fold, as arrays throughout: 100,000 images are no list of numbers."""
        count = len(held_out)
        columns = [
            pa.array([self.ids[position] for position in held_out], pa.string()),
            pa.array(np.zeros(count, np.int64)),
            pa.repeat(rung, count),
            pa.repeat(fold, count),
            pa.array(self.y[held_out]),
            pa.FixedSizeListArray.from_arrays(pa.array(probs.reshape(-1)), self.classes),
            pa.array(np.full(count, self._temperature.get(rung, 1.0))),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)
