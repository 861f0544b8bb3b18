"""A FiftyOneImageClassificationDataset: labels with confidence and attributes, images where they are."""

from __future__ import annotations

from pathlib import Path

from fallow.export.labels.base import Files, LabelSet, plain_name, whole_folder
from fallow.record import write_json
from fallow.record.labels import VERDICTS
from fallow.types import Json


def write_fiftyone(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write ``fiftyone/labels.json`` and ``fiftyone/data.json`` (name -> file).

    Read it with ``fiftyone.Dataset.from_dir(dataset_dir="fiftyone", data_path="data.json",
    dataset_type=fiftyone.types.FiftyOneImageClassificationDataset)``.
    """
    where: dict[str, Json] = {}
    said: dict[str, Json] = {}

    def add(id_: str, label: str, confidence: float, attributes: dict[str, Json]) -> None:
        name = plain_name(id_)
        while name in where:
            name += "_"
        where[name] = labels.address(id_)
        said[name] = {
            "label": label,
            "confidence": round(confidence, 4),
            "attributes": {"path": id_, **attributes},
        }

    for one in labels.given:
        if one.split == "train":
            add(one.id, one.label, 1.0, {"verdict": "given"})
    pool = labels.pool
    for row, id_ in enumerate(pool.ids):
        figures: dict[str, Json] = {
            "verdict": VERDICTS[pool.verdict[row]],
            "weight": round(float(pool.weight[row]), 4),
            "ood_score": round(float(pool.ood_score[row]), 4),
        }
        add(id_, pool.label(row), float(pool.probability[row]), figures)
    with whole_folder(out / "fiftyone") as made:
        write_json(made / "data.json", where)
        write_json(made / "labels.json", {"classes": list(pool.classes), "labels": said})
    return out / "fiftyone"
