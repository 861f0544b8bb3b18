"""``fallow evaluate``: how good is a model on labeled images that it has never seen?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from fallow.errors import DataError
from fallow.record import Interval
from fallow.types import JsonObject


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a model on labeled images.

    Attributes:
        accuracy: Share of images named rightly, with its 95 % interval.
        balanced_accuracy: Mean recall over the classes that occur.
        per_class: Precision, recall and count of each class.
        skipped: Images that could not be read.
    """

    accuracy: Interval
    balanced_accuracy: float
    per_class: dict[str, dict[str, float]]
    skipped: int

    def screen(self) -> str:
        """Return the figures for a terminal."""
        a = self.accuracy
        lines = [
            f"accuracy {100 * a.value:.1f} % (95 % interval {100 * a.low:.1f} to {100 * a.high:.1f}) on {a.n} images",
            f"balanced accuracy {100 * self.balanced_accuracy:.1f} %",
            "",
            f"{'class':<24}{'images':>8}{'precision':>11}{'recall':>9}",
        ]
        for name, row in self.per_class.items():
            lines.append(
                f"{name[:23]:<24}{int(row['images']):>8}{100 * row['precision']:>9.1f} %{100 * row['recall']:>7.1f} %"
            )
        if self.skipped:
            lines += ["", f"{self.skipped} images could not be read and were left out"]
        return "\n".join(lines) + "\n"

    def to_json(self) -> JsonObject:
        """Return the figures as JSON; fractions, not percentages."""
        a = self.accuracy
        return {
            "accuracy": {"value": a.value, "low": a.low, "high": a.high, "n": a.n},
            "balanced_accuracy": self.balanced_accuracy,
            "per_class": {k: dict(v) for k, v in self.per_class.items()},
            "skipped": self.skipped,
        }


def evaluate(
    model: Annotated[Path, Parameter(help="Run directory, or its model/ folder.")],
    data: Annotated[str, Parameter(help="Labeled images: class folders, a CSV, or a data set with test/.")],
    /,
    *,
    split: Annotated[
        str, Parameter(help="Which split to score. auto: test, or everything labeled where there is none.")
    ] = "auto",
) -> Evaluation:
    """Measure a model on labeled images: accuracy with its interval, and precision and recall of each class.

    Raises:
        DataError: There are no labeled images, or a class that the model does not know.
    """
    import torch

    from fallow.data import ImageReader, audit, open_source
    from fallow.study import accuracy_interval
    from fallow.tasks import classification_task
    from fallow.verbs.predict import model_at, pixel_scale

    deployed = model_at(model)
    found = audit(open_source(data))
    table = found.table
    if split not in ("auto", "train", "val", "test"):
        raise DataError(f"'{split}' is not a split: give train, val, test or auto")
    labels = table.labels("test" if split == "auto" else split)  # type: ignore[arg-type]
    if split == "auto" and not labels:
        labels = table.labels()
    if not labels:
        raise DataError(
            f"'{data}' has no labeled images to measure on: give class folders, or a CSV of path,label"
        )
    index = {name: i for i, name in enumerate(deployed.classes)}
    unknown = sorted(set(labels.values()) - set(index))
    if unknown:
        raise DataError(
            f"the model does not know the class '{unknown[0]}' of '{data}'; it knows {', '.join(deployed.classes)}"
        )
    reader = ImageReader(found.source, table, pixel_scale(deployed))
    ids = sorted(labels)
    rows = [deployed.predict_probs([reader.read(i)])[0] for i in ids]
    probs, truth = np.stack(rows), np.array([index[labels[i]] for i in ids])
    metrics = classification_task(tuple(deployed.classes)).metrics()
    values = metrics(torch.from_numpy(probs), torch.from_numpy(truth))
    occurring = np.unique(truth)
    per_class = {
        deployed.classes[c]: {
            "images": int((truth == c).sum()),
            "precision": float(values["precision"][c]),
            "recall": float(values["recall"][c]),
        }
        for c in occurring
    }
    return Evaluation(
        accuracy_interval((probs.argmax(1) == truth).astype(float)),
        float(np.mean([r["recall"] for r in per_class.values()])),
        per_class,
        len(found.skipped),
    )
