"""``fallow predict``: calibrated probabilities for files, folders and globs."""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from fallow.errors import DataError, RunError
from fallow.types import JsonObject

if TYPE_CHECKING:
    from fallow.data import PixelScale
    from fallow.export import Deployed

_CHUNK = 64
_SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"])
"""Files of a folder that are meant; a file named by itself is tried whatever it is called."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        path: The file, or ``image 3`` for the third array.
        label: The likeliest class; empty when the image could not be read.
        probability: Its calibrated probability.
        probabilities: Those of all classes.
        error: Why the image could not be read; empty when it could.
    """

    path: str
    label: str = ""
    probability: float = 0.0
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str = ""


class Predictions(list[Prediction]):
    """Predictions that print themselves as CSV or JSON lines."""

    format: Literal["csv", "jsonl"] = "csv"
    out: Path | None = None

    def text(self) -> str:
        """Return all predictions in the format asked for."""
        if self.format == "jsonl":
            return "".join(json.dumps(_row(p), ensure_ascii=False) + "\n" for p in self)
        target = io.StringIO()
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["path", "label", "probability", "error"])
        for p in self:
            writer.writerow([p.path, p.label, f"{p.probability:.4f}" if p.label else "", p.error])
        return target.getvalue()

    def screen(self) -> str:
        """Return what to print: the predictions, or where they were written."""
        if self.out is None:
            return self.text()
        bad = sum(1 for p in self if p.error)
        return f"wrote {len(self)} predictions to {self.out}" + (
            f"; {bad} images could not be read\n" if bad else "\n"
        )

    def to_json(self) -> JsonObject:
        """Return all predictions as one JSON object."""
        return {"predictions": [_row(p) for p in self]}


def _row(p: Prediction) -> JsonObject:
    if p.error:
        return {"path": p.path, "error": p.error}
    return {
        "path": p.path,
        "label": p.label,
        "probability": p.probability,
        "probabilities": dict(p.probabilities),
    }


def find_images(patterns: Iterable[str | Path]) -> list[Path]:
    """Expand files, folders and globs into files, sorted within each.

    Raises:
        DataError: A pattern matches nothing.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in _SUFFIXES)
            if not inside:
                raise DataError(f"the folder '{pattern}' holds no images")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            matched = sorted(Path(p) for p in glob.glob(str(pattern), recursive=True) if Path(p).is_file())
            if not matched:
                raise DataError(
                    f"'{pattern}' is no file or folder and matches nothing: give images, folders or a glob"
                )
            found += matched
    return found


def predict_images(model: Deployed, images: str | Path | Iterable[Any]) -> list[Prediction]:
    """Predict files, folders, globs or uint8 arrays with a loaded model; unreadable images carry an error."""
    items: list[Any] = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        items = list(images)
    arrays = [i for i in items if not isinstance(i, str | Path)]
    if arrays and len(arrays) < len(items):
        raise DataError("predict takes files or arrays, not both in one call")
    named = (
        [(f"image {n}", _array(a, n)) for n, a in enumerate(arrays)]
        if arrays
        else ((str(p), p) for p in find_images(items))
    )
    return list(_predict(model, named))


def _array(value: Any, position: int) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, 2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(
            f"image {position} should be a uint8 array (height, width, 3), not {array.dtype} {tuple(array.shape)}"
        )
    return array


def _predict(model: Deployed, named: Iterable[tuple[str, Any]]) -> Iterator[Prediction]:
    from fallow.data import ImageError, decode

    scale = pixel_scale(model)
    chunk: list[tuple[str, Any, str]] = []

    def flush() -> Iterator[Prediction]:
        good = [a for _, a, error in chunk if not error]
        rows = iter(model.predict_probs(good)) if good else iter(())
        for name, _, error in chunk:
            if error:
                yield Prediction(name, error=error)
                continue
            probs = next(rows)
            best = int(np.argmax(probs))
            every = {c: round(float(p), 6) for c, p in zip(model.classes, probs, strict=True)}
            yield Prediction(name, model.classes[best], round(float(probs[best]), 6), every)
        chunk.clear()

    for name, item in named:
        error = ""
        if isinstance(item, Path):
            try:
                item = decode(item.read_bytes(), name, scale)
            except ImageError as failure:
                item, error = None, failure.reason
            except OSError as failure:
                item, error = None, str(failure.strerror or failure)
        chunk.append((name, item, error))
        if len(chunk) == _CHUNK:
            yield from flush()
    yield from flush()


def pixel_scale(model: Deployed) -> PixelScale | None:
    """Return how images with more than 8 bits become 8 bits, as in training; None where there were none."""
    from fallow.data import PixelScale

    values = model.meta.get("pixel_scale")
    return None if values is None else PixelScale(*values)


def model_at(model: str | Path) -> Deployed:
    """Load the deployed model of a run directory, or of its ``model/`` folder.

    Raises:
        RunError: Neither holds a model.
    """
    from fallow.export import load_bundle

    path = Path(model)
    for folder in (path / "model", path):
        if (folder / "model.json").is_file():
            return load_bundle(folder)
    raise RunError(
        f"'{model}' holds no model of fallow: give a run directory such as runs/demo, or its model/ folder"
    )


def predict(
    model: Annotated[Path, Parameter(help="Run directory, or its model/ folder.")],
    /,
    *images: Annotated[str, Parameter(help="Files, folders or globs.")],
    out: Annotated[Path | None, Parameter(help="Write to this file instead of the screen.")] = None,
    format: Annotated[
        Literal["csv", "jsonl"], Parameter(help="csv, or JSON lines with all probabilities.")
    ] = "csv",
) -> Predictions:
    """Name the class of every image, with a calibrated probability.

    Images that cannot be read are listed with the reason; the others are predicted.

    Raises:
        DataError: Nothing to predict was found.
        RunError: The folder holds no model.
    """
    from fallow.record.rundir import write_bytes

    if not images:
        raise DataError(
            "give the images to predict: files, folders or globs, as in  fallow predict runs/demo photos/new"
        )
    result = Predictions(predict_images(model_at(model), images))
    result.format, result.out = format, out
    if out is not None:
        write_bytes(out, result.text().encode())
    return result
