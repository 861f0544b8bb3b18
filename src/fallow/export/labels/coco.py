"""COCO's JSON, for tools that read nothing else: a box around the whole image carries its class."""

from __future__ import annotations

from pathlib import Path

from fallow.export.labels.base import Files, LabelSet
from fallow.record import write_json
from fallow.record.labels import VERDICTS
from fallow.types import Json


def write_coco(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write ``coco.json``: given training labels and the pool, one annotation an image with ``score`` and ``verdict``.

    Foreign images have no annotation.
    """
    images: list[Json] = []
    annotations: list[Json] = []
    number = {name: place for place, name in enumerate(labels.pool.classes, start=1)}

    def add(id_: str, label: str | None, score: float, verdict: str) -> None:
        width, height = labels.sizes[id_]
        images.append(
            {
                "id": len(images) + 1,
                "file_name": labels.address(id_),
                "width": width,
                "height": height,
                "path": id_,
            }
        )
        if label is None:
            return
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": len(images),
                "category_id": number[label],
                "bbox": [0, 0, width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": round(score, 4),
                "verdict": verdict,
            }
        )

    for one in labels.given:
        if one.split == "train":
            add(one.id, one.label, 1.0, "given")
    pool = labels.pool
    for row, id_ in enumerate(pool.ids):
        verdict = VERDICTS[pool.verdict[row]]
        add(id_, None if verdict == "foreign" else pool.label(row), float(pool.probability[row]), verdict)
    categories: list[Json] = [
        {"id": place, "name": name, "supercategory": ""} for name, place in number.items()
    ]
    write_json(out / "coco.json", {"images": images, "annotations": annotations, "categories": categories})
    return out / "coco.json"
