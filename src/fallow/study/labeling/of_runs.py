"""What a run of fallow said of labels while it held them out, and which labels it has learned from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fallow.data import ImageTable
from fallow.errors import RunError
from fallow.record import read_json
from fallow.study.evidence import tempered


@dataclass(frozen=True, eq=False)
class RunEvidence:
    """The out-of-fold answers of the rung that a run chose.

    Attributes:
        known: Pixel hashes of the images that the run learned from.
        image: Number of the labeled image that each answer is about, (rows,).
        hashes: Pixel hash of each labeled image, (images,).
        probs: Calibrated, (rows, classes).
        y: Class of each such image, (images,).
        learned: Share of the labels that the answering models had learned from.
    """

    known: frozenset[str]
    image: NDArray[np.int64]
    hashes: tuple[str, ...]
    probs: NDArray[np.float64]
    y: NDArray[np.int64]
    learned: float


def evidence_of(run: Path, classes: int) -> RunEvidence | None:
    """Return the evidence of a run; None where only its model is at hand, so that nobody knows what it has learned from.

    Args:
        run: The run directory.
        classes: Number of classes.

    Raises:
        RunError: The run's tables are damaged.
    """
    if not (run / "splits.parquet").is_file():
        return None
    table = ImageTable.read(run / "splits.parquet")
    trained = [id_ for split in ("train", "val") for id_ in table.labels(split)]
    known = frozenset(h for h in table.column("pixel_hash", trained) if h)
    empty = RunEvidence(known, np.zeros(0, np.int64), (), np.zeros((0, classes)), np.zeros(0, np.int64), 1.0)
    try:
        rung = str(read_json(run / "model" / "model.json")["rung"])
        rows = pq.read_table(run / "out_of_fold.parquet", filters=[("rung", "=", rung)])
    except FileNotFoundError:
        return empty
    except (RunError, KeyError, OSError, ValueError) as error:
        raise RunError(
            f"the out-of-fold table of '{run}' cannot be read ({error}): copy the whole run again"
        ) from error
    if not rows.num_rows:
        return empty
    names = rows["id"].to_pylist()
    ids = list(dict.fromkeys(names))
    number = {id_: place for place, id_ in enumerate(ids)}
    image = np.array([number[id_] for id_ in names], np.int64)
    probs = rows["probs"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, classes)
    y = np.zeros(len(ids), np.int64)
    y[image] = rows["label"].to_numpy()
    temperature = float(rows["temperature"][0].as_py())
    folds = rows["fold"].to_pylist()
    # What a fold does not hold out its model has learned from: the mean over folds.
    held = np.mean([folds.count(fold) for fold in set(folds)]) / max(len(trained), 1)
    hashes = tuple(table.column("pixel_hash", ids))
    return RunEvidence(known, image, hashes, tempered(probs, temperature), y, float(1 - held))
