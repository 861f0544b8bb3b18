"""``fallow evaluate``: how good is a model on labeled images that it has never seen?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from cyclopts import Parameter

from fallow.config.evaluate import FeaturesConfig
from fallow.errors import ConfigError, DataError, RunError, nearest
from fallow.record import Interval
from fallow.types import JsonObject
from fallow.verbs.batches import look
from fallow.verbs.probe import Probed, probe_features, trained_on
from fallow.verbs.watch import Watch

if TYPE_CHECKING:
    from fallow.data import Source
    from fallow.export import Deployed

Scored = Literal["auto", "train", "val", "test"]
_FEATURES = "Features"


def _about(field: str, metavar: str) -> Parameter:
    """Return the option of a field of `FeaturesConfig`."""
    one = FeaturesConfig.model_fields[field]
    shown = f" [default: {one.default}]" if one.default is not None and one.default is not False else ""
    return Parameter(
        help=(one.description or "") + shown,
        group=_FEATURES,
        show_default=False,
        metavar=metavar,
        negative="",
    )


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a model on labeled images.

    Attributes:
        accuracy: Share of images named rightly, with its 95 % interval.
        balanced_accuracy: Mean recall over the classes that occur.
        per_class: Precision, recall and count of each class.
        skipped: Labeled images that could not be read, and why.
        known: Images that the model was trained on; None where the run that tells is not at hand.
    """

    accuracy: Interval
    balanced_accuracy: float
    per_class: dict[str, dict[str, float]]
    skipped: dict[str, str] = field(default_factory=dict)
    known: int | None = None

    def screen(self) -> str:
        """Return the figures for a terminal."""
        a = self.accuracy
        lines = [
            f"accuracy {100 * a.value:.1f} % (95 % interval {100 * a.low:.1f} to {100 * a.high:.1f}) on {a.n:,} images",
            f"balanced accuracy {100 * self.balanced_accuracy:.1f} %",
            "",
            f"{'class':<24}{'images':>8}{'precision':>11}{'recall':>9}",
        ]
        for name, row in self.per_class.items():
            lines.append(
                f"{name[:23]:<24}{int(row['images']):>8}{100 * row['precision']:>9.1f} %{100 * row['recall']:>7.1f} %"
            )
        if self.skipped:
            name, why = next(iter(self.skipped.items()))
            lines += [
                "",
                f"{len(self.skipped):,} could not be read and do not count; the first is {name}: {why}",
            ]
        if self.known:
            lines += [
                "",
                f"{self.known:,} of these images were used in training: the figures flatter the model",
            ]
        return "\n".join(lines) + "\n"

    def to_json(self) -> JsonObject:
        """Return the figures as JSON; fractions, not percentages."""
        a = self.accuracy
        return {
            "accuracy": {"value": a.value, "low": a.low, "high": a.high, "n": a.n},
            "balanced_accuracy": self.balanced_accuracy,
            "per_class": {k: dict(v) for k, v in self.per_class.items()},
            "skipped": [{"id": name, "reason": why} for name, why in self.skipped.items()],
            "trained_on": self.known,
        }


def evaluate(
    model: Annotated[
        str | Path,
        Parameter(
            help="Run directory, or its model/ folder; or a backbone: a timm model name, `pixels`, or the folder of a "
            "`fallow pretrain` run."
        ),
    ],
    data: Annotated[str, Parameter(help="Labeled images: class folders, a CSV, or a data set with test/.")],
    /,
    *,
    split: Annotated[
        Scored, Parameter(help="Which split to score. auto: test, or everything labeled where there is none.")
    ] = "auto",
    probe: Annotated[str | None, _about("probe", "LIST")] = None,
    against: Annotated[str | None, _about("against", "MODEL")] = None,
    size: Annotated[str | None, _about("size", "PIXELS")] = None,
    weights: Annotated[Path | None, _about("weights", "FILE")] = None,
    images: Annotated[str | None, _about("images", "N")] = None,
    steps: Annotated[str | None, _about("steps", "N")] = None,
    seed: Annotated[str | None, _about("seed", "N")] = None,
    offline: Annotated[bool | None, _about("offline", "")] = None,
    out: Annotated[Path | None, _about("out", "FOLDER")] = None,
) -> Evaluation | Probed:
    """Measure a model on labeled images, or a backbone's features by what can be read from them.

    A model with classes: accuracy with its interval, and precision and recall of each class. Each image is looked at on its
    own, through the exported model. Images that the model was trained on are counted and said.

    A backbone has no classes. Its features are judged: nearest neighbors, a linear probe, few labels, clusters, retrieval. The
    same is done with the features of a trained model where --probe or --against ask for it. With a test split heads learn on
    the other labels and are judged there; without one on folds, dealt several times.

    Raises:
        ConfigError: An option is wrong, or there is no such backbone.
        DataError: There are no labeled images, too few of a class, or a class that the model does not know.
        RunError: There is no model.
    """
    asked = {
        "probe": probe,
        "against": against,
        "size": size,
        "weights": weights,
        "images": images,
        "steps": steps,
        "seed": seed,
        "offline": offline,
        "out": out,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if probe is not None or against is not None or _is_backbone(str(model)):
        return probe_features(str(model), data, {**given, "split": split})
    if given:
        raise ConfigError(
            f"--{next(iter(given))} is about features, and '{model}' is a model with classes: add --probe quick to judge its "
            "features, or leave it out"
        )
    return _classified(model, data, split)


def _is_backbone(model: str) -> bool:
    """Say whether a backbone is meant, which names no classes, and not a run with a model.

    Raises:
        RunError: It is nothing that is known.
    """
    import timm

    from fallow.models import PIXELS
    from fallow.models.small import is_small_resnet
    from fallow.study.probing import trained_folder

    path = Path(model)
    if trained_folder(path) is not None:
        return False
    if any((folder / "model.json").is_file() for folder in (path, path / "model")):
        return True
    names = [part.strip() for part in model.split("+")]
    if all(
        n == PIXELS
        or is_small_resnet(n)
        or n.startswith(("hf_hub:", "hf-hub:", "torchvision/"))
        or timm.is_model(n)
        for n in names
    ):
        return True
    if path.exists() or "/" in model:
        return False  # a run that has no model yet, or is not there: who opens it says so
    raise RunError(
        f"'{model}' is neither a run nor a backbone: give the folder of a run, a timm model name or pixels."
        f"{nearest(model, [*timm.list_models(), PIXELS])}"
    )


def _classified(model: str | Path, data: str, split: Scored) -> Evaluation:
    from fallow.data import byte_hash, decode, open_source
    from fallow.export import model_at

    deployed = model_at(model)
    source = open_source(data)
    labels = _labels(source, split, data)
    _check_classes(labels.values(), deployed, data)
    known = trained_on(Path(model))
    met: list[str] = []

    def read(id_: str) -> npt.NDArray[np.uint8]:
        blob = source.open(id_)
        if known and byte_hash(blob) in known:
            met.append(id_)
        return decode(blob, id_, deployed.pixel_scale)

    rows, truth, skipped = [], [], {}
    index = {name: i for i, name in enumerate(deployed.classes)}
    with Watch("evaluating", len(labels)) as watch:
        for looked in look(deployed, labels, read):
            if looked.probs is None:
                skipped[looked.key] = looked.error
            else:
                rows.append(looked.probs)
                truth.append(index[labels[looked.key]])
            watch(len(rows) + len(skipped))
    if not rows:
        name, why = next(iter(skipped.items()))
        raise DataError(
            f"none of the {len(skipped)} labeled images in '{data}' can be read; the first is '{name}': {why}"
        )
    return _scores(deployed, np.stack(rows), np.array(truth), skipped, None if known is None else len(met))


def _labels(source: Source, split: Scored, data: str) -> dict[str, str]:
    """Return uri -> label of the images to score."""
    found: dict[str, dict[str, str]] = {"train": {}, "val": {}, "test": {}}
    if split not in ("auto", *found):
        raise DataError(f"'{split}' is not a split: give train, val, test or auto.{nearest(split, found)}")
    for batch in source.rows():
        for row in batch.to_pylist():
            if row["labels"] and row["split"] in found:
                found[row["split"]][row["uri"]] = row["labels"][0]
    everything = {uri: label for part in found.values() for uri, label in part.items()}
    if not everything:
        raise DataError(
            f"'{data}' has no labeled images to measure on: give class folders, or a CSV of path,label"
        )
    if split == "auto":
        return found["test"] or everything
    if not found[split]:
        there = ", ".join(name for name, part in found.items() if part)
        raise DataError(f"'{data}' has no labeled images in {split}: give --split {there}")
    return found[split]


def _check_classes(labels: Iterable[str], model: Deployed, data: str) -> None:
    unknown = sorted(set(labels) - set(model.classes))
    if unknown:
        shown = ", ".join(model.classes[:12]) + (" ..." if len(model.classes) > 12 else "")
        raise DataError(
            f"the model does not know the class '{unknown[0]}' of '{data}': take its images out, or rename it to one "
            f"of {shown}.{nearest(unknown[0], model.classes)}"
        )


def _scores(
    model: Deployed,
    probs: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    skipped: dict[str, str],
    known: int | None,
) -> Evaluation:
    import torch

    from fallow.study import accuracy_interval
    from fallow.tasks import classification_task

    values = classification_task(tuple(model.classes)).metrics()(
        torch.from_numpy(probs), torch.from_numpy(truth)
    )
    per_class = {
        model.classes[c]: {
            "images": int((truth == c).sum()),
            "precision": float(values["precision"][c]),
            "recall": float(values["recall"][c]),
        }
        for c in np.unique(truth)
    }
    return Evaluation(
        accuracy_interval((probs.argmax(1) == truth).astype(float)),
        float(np.mean([row["recall"] for row in per_class.values()])),
        per_class,
        skipped,
        known,
    )
