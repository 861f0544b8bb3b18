"""A folder that ``datasets.load_dataset("imagefolder", data_dir=...)`` reads."""

from __future__ import annotations

import json
from pathlib import Path

from fallow.export.labels.base import Files, LabelSet, Shelf, whole_folder
from fallow.record.rundir import write_bytes
from fallow.types import Json

_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def write_huggingface(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write ``huggingface/train/`` with ``metadata.jsonl`` (file_name, label, weight) and the images; given splits beside it."""
    home = out / "huggingface"
    with whole_folder(home) as made:
        shelf = Shelf(labels, made, home, files)
        lines: dict[str, list[dict[str, Json]]] = {"train": []}
        for id_, label, weight in labels.learned_from():
            name = shelf.put(id_, "train").partition("/")[2]
            lines["train"].append(
                {"file_name": name, "label": label, "weight": round(weight, 4), "path": id_}
            )
        for one in labels.given:
            if one.split == "train":
                continue
            split = _SPLITS[one.split]
            name = shelf.put(one.id, split).partition("/")[2]
            lines.setdefault(split, []).append(
                {"file_name": name, "label": one.label, "weight": 1.0, "path": one.id}
            )
        for split, rows in lines.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_bytes(made / split / "metadata.jsonl", text.encode(errors="backslashreplace"))
    return home
