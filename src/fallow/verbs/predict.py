"""``fallow predict``: calibrated probabilities for files, folders and globs."""

from __future__ import annotations

import csv
import errno
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, overload

import numpy as np
from cyclopts import Parameter

from fallow.errors import DataError, RunError
from fallow.types import JsonObject
from fallow.verbs.batches import look
from fallow.verbs.files import find_images

if TYPE_CHECKING:
    from fallow.export import Deployed

Format = Literal["csv", "jsonl"]


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

    def to_json(self) -> JsonObject:
        """Return the prediction as a JSON object."""
        if self.error:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(self.probabilities),
        }


@dataclass
class Written:
    """How many predictions went where.

    Attributes:
        out: The file.
        images: How many images were found.
        unreadable: How many of them could not be read.
        first_error: The first of those, and why.
    """

    out: Path | None = None
    images: int = 0
    unreadable: int = 0
    first_error: str = ""

    def count(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Pass predictions on and count them."""
        for prediction in predictions:
            self.images += 1
            if prediction.error:
                self.unreadable += 1
                self.first_error = self.first_error or f"'{prediction.path}': {prediction.error}"
            yield prediction

    def screen(self) -> str:
        """Return one line for a terminal."""
        return f"wrote {self.images:,} predictions to {self.out}\n"

    def to_json(self) -> JsonObject:
        """Return the figures as a JSON object."""
        return {"out": str(self.out), "images": self.images, "unreadable": self.unreadable}


def as_csv(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Yield a CSV file in pieces: ``path,label,probability,error``."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    rows: Iterable[list[str]] = (
        [p.path, p.label, "" if p.error else f"{p.probability:.4f}", p.error] for p in predictions
    )
    writer.writerow(["path", "label", "probability", "error"])
    for row in rows:
        yield target.getvalue()
        target.seek(0)
        target.truncate()
        writer.writerow(row)
    yield target.getvalue()


def as_json_lines(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Yield one JSON object a line, with the probabilities of all classes."""
    for prediction in predictions:
        yield json.dumps(prediction.to_json(), ensure_ascii=False) + "\n"


def as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Yield one JSON object with all predictions, in pieces."""
    before = '{"predictions": [\n'
    for prediction in predictions:
        yield before + json.dumps(prediction.to_json(), ensure_ascii=False)
        before = ",\n"
    yield ("\n" if before == ",\n" else before) + "]}\n"


WRITERS: dict[str, Callable[[Iterable[Prediction]], Iterator[str]]] = {
    "csv": as_csv,
    "jsonl": as_json_lines,
    "json": as_json,
}


def predict_images(model: Deployed, images: str | Path | Iterable[Any]) -> Iterator[Prediction]:
    """Predict files, folders, globs or uint8 arrays, in order, few of them in memory at a time.

    Raises:
        DataError: A path matches nothing, or an array is no image.
    """
    from fallow.data import decode, printable, read_image_file

    items: Iterable[Any] = images if not isinstance(images, str | Path) else [images]
    if isinstance(images, np.ndarray) and images.ndim == 3:
        items = [images]
    scale = model.pixel_scale

    def read(key: tuple[str, Any]) -> np.ndarray[Any, Any]:
        name, item = key
        return decode(read_image_file(item, name), name, scale) if isinstance(item, Path) else item

    for looked in look(model, _named(items, printable), read):
        name = looked.key[0]
        if looked.probs is None:
            yield Prediction(name, error=looked.error)
            continue
        best = int(np.argmax(looked.probs))
        every = {c: round(float(p), 6) for c, p in zip(model.classes, looked.probs, strict=True)}
        yield Prediction(name, model.classes[best], every[model.classes[best]], every)


def _named(items: Iterable[Any], printable: Callable[[str], str]) -> Iterator[tuple[str, Any]]:
    items = iter(items)
    for position, item in enumerate(items):
        if not isinstance(item, str | Path):
            yield f"image {position}", _array(item, position)
            continue
        # From here on the paths: all are expanded first, so that a misspelled one is told at once.
        paths = [item]
        for later in items:
            if not isinstance(later, str | Path):
                raise DataError("give paths or arrays to predict, not both in one call")
            paths.append(later)
        yield from ((printable(str(path)), path) for path in find_images(paths))


def _array(value: Any, position: int) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, 2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise DataError(
            f"image {position} should be a uint8 array (height, width, 3), not {array.dtype} {tuple(array.shape)}"
        )
    return array


@overload
def predict(model: Path, /, *images: str, out: None = None, format: Format = "csv") -> list[Prediction]: ...
@overload
def predict(model: Path, /, *images: str, out: Path, format: Format = "csv") -> Written: ...
def predict(
    model: Annotated[Path, Parameter(help="Run directory, or its model/ folder.")],
    /,
    *images: Annotated[str, Parameter(help="Files, folders or globs.")],
    out: Annotated[
        Path | None, Parameter(help="Write to this file instead of the screen.", metavar="FILE")
    ] = None,
    format: Annotated[
        Format,
        Parameter(help="csv: path, label, probability, error. jsonl: a line each with all probabilities."),
    ] = "csv",
) -> list[Prediction] | Written:
    """Name the class of every image, with a calibrated probability.

    Images that cannot be read are listed with the reason; the others are predicted. A folder may be of any size: with
    --out, or when piped, predictions are written as they come.

    Raises:
        DataError: Nothing to predict was found.
        RunError: The folder holds no model, or ``out`` cannot be written.
    """
    if out is None:
        return list(_asked(model, images))
    with writing(out) as file:
        return stream(model, images, file, format, out)


def _asked(model: Path, images: tuple[str, ...]) -> Iterator[Prediction]:
    if not images:
        raise DataError(
            "give the images to predict: files, folders or globs, as in  fallow predict runs/demo photos/new"
        )
    from fallow.export import model_at

    return predict_images(model_at(model), images)


def stream(
    model: Path, images: tuple[str, ...], file: IO[str], format: str, out: Path | None = None
) -> Written:
    """Write predictions to an open file as they come, with a bar for whoever waits.

    Args:
        model: Run directory, or its model folder.
        images: Files, folders or globs.
        file: Where to write. On a terminal the lines themselves show the progress.
        format: ``csv``, ``jsonl`` or ``json``.
        out: What to call the file in the summary.
    """
    from fallow.verbs.watch import Watch

    written = Written(out)
    with Watch("predicting", enabled=not file.isatty()) as watch:
        for piece in WRITERS[format](written.count(_asked(model, images))):
            file.write(piece)
            watch(written.images)
    return written


@contextmanager
def writing(out: Path) -> Iterator[IO[str]]:
    """Open ``out`` for text that takes its place when all is written; a pipe or a device is written to as it is.

    Raises:
        RunError: It cannot be written.
    """
    from fallow.record.rundir import atomic_path

    try:
        if out.exists() and not out.is_file():
            with out.open("w", encoding="utf-8") as file:
                yield file
            return
        with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise RunError(f"'{out}' cannot be written ({why}): choose another file with --out") from error
