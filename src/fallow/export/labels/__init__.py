"""Formats that labels are written in, one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fallow.export.labels.base import Files, Given, LabelSet, label_set
from fallow.export.labels.coco import write_coco
from fallow.export.labels.fiftyone import write_fiftyone
from fallow.export.labels.folders import write_folders
from fallow.export.labels.huggingface import write_huggingface
from fallow.export.labels.label_studio import write_label_studio
from fallow.export.labels.tables import write_csv, write_list, write_parquet

Writer = Callable[[LabelSet, Path, Files], Path]

WRITERS: dict[str, Writer] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "list": write_list,
    "folders": write_folders,
    "label-studio": write_label_studio,
    "coco": write_coco,
    "fiftyone": write_fiftyone,
    "huggingface": write_huggingface,
}
"""Name of a format -> what writes it into a folder and returns what it wrote. ``fallow.config.LABEL_FORMATS`` names them too."""
_SAME = {"folder": "folders", "table": "list"}
"""The format that data come in -> the one that gives the same back."""


def write_labels(labels: LabelSet, out: Path, formats: tuple[str, ...], files: Files = "link") -> list[Path]:
    """Write labels in several formats into ``out``; ``same`` is the format that the data came in (arrays: a list).

    Returns:
        What was written, in order.
    """
    names = dict.fromkeys(_SAME.get(labels.origin, "list") if name == "same" else name for name in formats)
    return [WRITERS[name](labels, out, files) for name in names]


__all__ = ["WRITERS", "Files", "Given", "LabelSet", "Writer", "label_set", "write_labels"]
