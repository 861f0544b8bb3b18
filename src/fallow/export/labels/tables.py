"""Labels as a table: ``labels.csv``, ``labels.parquet``, and a list that `fallow train` and others read."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pyarrow.parquet as pq

from fallow.export.labels.base import Files, LabelSet
from fallow.record.labels import COLUMNS, PoolLabels
from fallow.record.rundir import atomic_path, write_bytes

_ROWS = 10_000


def write_csv(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write ``labels.csv``, one line for each unlabeled image: ``path, label, probability, weight, verdict, agreement, ood_score``."""
    path = out / "labels.csv"
    write_labels_csv(labels.pool, path)
    return path


def write_labels_csv(pool: PoolLabels, path: Path) -> None:
    """Write the table to ``path``, some rows in memory at a time."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        for batch in pool.table().to_batches(max_chunksize=_ROWS):
            for row in zip(*(batch.column(name).to_pylist() for name in COLUMNS), strict=True):
                lines.writerow(["" if v is None else f"{v:.4f}" if isinstance(v, float) else v for v in row])


def write_parquet(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write ``labels.parquet``: the columns of the CSV and ``probabilities`` of all classes."""
    path = out / "labels.parquet"
    with atomic_path(path) as temporary:
        pq.write_table(labels.pool.table(soft=True), temporary)
    return path


def write_list(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write ``data.csv``: ``path,label,split,weight`` of the given labels and the accepted ones, and the rest without a label.

    Paths are relative to the list, so that both may be moved together. Foreign images are left out.
    """
    target = io.StringIO()
    lines = csv.writer(target, lineterminator="\n")
    lines.writerow(["path", "label", "split", "weight"])
    for id_, label, weight in labels.learned_from():
        lines.writerow([_relative(labels, id_, out), label, "train", f"{weight:.4f}"])
    for one in labels.given:
        if one.split != "train":
            lines.writerow([_relative(labels, one.id, out), one.label, one.split, "1.0000"])
    for row in labels.pool.where("doubtful"):
        lines.writerow([_relative(labels, labels.pool.ids[row], out), "", "unlabeled", "0.0000"])
    write_bytes(out / "data.csv", target.getvalue().encode(errors="backslashreplace"))
    return out / "data.csv"


def _relative(labels: LabelSet, id_: str, out: Path) -> str:
    file = labels.file(id_)
    return id_ if file is None else os.path.relpath(file.absolute(), out.absolute()).replace(os.sep, "/")
