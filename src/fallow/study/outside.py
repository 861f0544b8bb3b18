"""Models that come from elsewhere: a run of fallow, an ONNX file, a network or function of the user's own."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fallow.config import Asking
from fallow.data import default_workers, in_order
from fallow.errors import ConfigError, FallowError, RunError, WeightsError
from fallow.export import Deployed, load_bundle, model_at
from fallow.models import Preprocess, softmax
from fallow.record import read_json
from fallow.study.latency import Answer, through_graph
from fallow.study.rung import ImageSet

Probs = NDArray[np.float32]
Raw = NDArray[np.float32]
_BATCH = 16
_SIZE = 224
_SUM = 1e-3
OUTPUTS_RULE = "Answers that all lie between 0 and 1 and sum to 1 are probabilities; others are logits. A run gives probabilities."
"""How what a model gives is told apart."""


class OutsideModel(ABC):
    """A model that names images.

    Attributes:
        name: What the user called it.
        classes: Class names in the order of its answers.
    """

    name: str
    classes: tuple[str, ...]

    @abstractmethod
    def answers(self, images: ImageSet) -> Iterator[Raw]:
        """Yield what the model gives for each image, (classes,), in order."""

    @property
    def file(self) -> Path | None:
        """The file that holds it; None where it lives in the memory of this process."""
        return None

    @abstractmethod
    def alone(self) -> Answer:
        """Return what answers one image alone, from its pixels: what is timed."""

    def kind(self, parts: Iterable[Raw]) -> str:
        """Return what raw answers are taken for, ``probabilities`` or ``logits``; all of them are looked at, some at a time."""
        return "probabilities"

    def probs(self, raw: Raw, kind: str) -> Probs:
        """Return probabilities (n, classes) of raw answers (n, outputs) of a kind."""
        return raw


class RunModel(OutsideModel):
    """The model of a run, or a model folder; gives calibrated probabilities."""

    def __init__(self, path: Path, deployed: Deployed) -> None:
        self.path, self.name, self.classes = path, str(path), deployed.classes
        self.deployed = deployed

    @property
    def file(self) -> Path:
        """Its exported graph."""
        return self.deployed.path

    def alone(self) -> Answer:
        """Return what answers one image through the exported graph, on all cores."""
        return through_graph(self.file)

    def answers(self, images: ImageSet) -> Iterator[Raw]:
        """Yield calibrated probabilities, each image looked at on its own."""
        for _, probs in self.deployed.stream(images.ids, images.read):
            assert probs is not None  # every image was decoded by the audit
            yield probs


class OwnModel(OutsideModel):
    """A function from batches to logits or probabilities.

    Args:
        name: What to call it.
        call: Takes float32 (n, 3, s, s), normalized, and returns (n, classes).
        preprocess: Makes such an image.
        config: ``outputs`` says what the answers are.
        classes: Class names.
        batch: Images a call; a file may take one at a time.
        file: Where it comes from, if from a file.
    """

    def __init__(
        self,
        name: str,
        call: Callable[[NDArray[np.float32]], NDArray[np.floating]],
        preprocess: Preprocess,
        config: Asking,
        classes: tuple[str, ...],
        batch: int = _BATCH,
        file: Path | None = None,
    ) -> None:
        self.name, self.classes, self._file = name, classes, file
        self._call, self._preprocess, self._asked, self._batch = call, preprocess, config.outputs, batch

    @property
    def file(self) -> Path | None:
        """The file that it was opened from."""
        return self._file

    def alone(self) -> Answer:
        """Return what answers one image; a file that takes so many at a time is given that many."""
        return lambda image: self._ask([self._preprocess(image)])

    def answers(self, images: ImageSet) -> Iterator[Raw]:
        """Yield raw answers; images are read by several threads and asked about in batches."""
        waiting: list[NDArray[np.float32]] = []
        for pixels in in_order(lambda id_: self._preprocess(images.read(id_)), images.ids, default_workers()):
            waiting.append(pixels)
            if len(waiting) == self._batch:
                yield from self._ask(waiting)
                waiting = []
        if waiting:
            yield from self._ask(waiting)

    def _ask(self, batch: list[NDArray[np.float32]]) -> Raw:
        try:
            said = np.asarray(self._call(np.stack(batch)), np.float32)
        except FallowError:
            raise
        except Exception as error:  # the user's own code, or a runtime that raises whatever lies beneath
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise RunError(
                f"the model '{self.name}' failed on a batch of {len(batch)} images of {self._preprocess.size} pixels ({reason}): "
                "if it takes another size, name that with --set input.size=PIXELS"
            ) from error
        if said.ndim == 2 and said.shape[1] == 1 and len(self.classes) == 2:
            return said
        if said.ndim != 2:
            raise ConfigError(
                f"the model '{self.name}' gives an array of shape {said.shape} for {len(batch)} images, not one of logits or "
                "probabilities (images, classes): from Python, give a function that returns these"
            )
        if said.shape != (len(batch), len(self.classes)):
            raise ConfigError(
                f"the model '{self.name}' gives {said.shape} for {len(batch)} images, and there are {len(self.classes)} classes "
                f"({', '.join(self.classes[:5])}{' ...' if len(self.classes) > 5 else ''}): name its classes in the order of its "
                "outputs with --classes FILE"
            )
        if not np.isfinite(said).all():
            raise RunError(
                f"the model '{self.name}' gives values that are not finite: check its normalization (input.mean, input.std)"
            )
        return said

    def kind(self, parts: Iterable[Raw]) -> str:
        """Return what the answers are: all within 0 and 1, and with a sum of 1, they are probabilities."""
        if self._asked != "auto":
            return self._asked
        return "probabilities" if all(_looks_like_probabilities(raw) for raw in parts) else "logits"

    def probs(self, raw: Raw, kind: str) -> Probs:
        """Return probabilities: those given as they are, logits through a softmax; one output of two classes is the second's."""
        if raw.shape[1] > 1:
            return raw if kind == "probabilities" else softmax(raw)
        second = raw if kind == "probabilities" else 1 / (1 + np.exp(-np.clip(raw, -60, 60)))
        return np.concatenate([1 - second, second], axis=1).astype(np.float32)


def _looks_like_probabilities(raw: Raw) -> bool:
    if raw.shape[1] == 1:
        return bool(raw.min() >= 0 and raw.max() <= 1)
    return bool(raw.min() >= 0 and np.abs(raw.sum(1) - 1).max() < _SUM)


def open_model(model: Any, config: Asking, known: tuple[str, ...]) -> OutsideModel:
    """Open what the user gave as a model.

    Args:
        model: A run directory or model folder, an ONNX file, a torch module, or a function of float32 (n, 3, s, s).
        config: How it is fed and what it gives.
        known: Classes of the data, the names where the model has none of its own.

    Raises:
        FallowError: It cannot be used.
    """
    if isinstance(model, str | Path):
        path = Path(model).expanduser()
        if path.is_dir():
            return RunModel(path, model_at(path))
        if path.suffix == ".onnx" and path.is_file():
            return _onnx_model(path, config, known)
        raise ConfigError(
            f"'{model}' is no model that can be asked: give a run directory, an .onnx file, or the name of a timm model"
        )
    return _own_network(model, config, known)


def class_names(config: Asking, beside: Path | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a model's outputs: from --classes, ``labels.json`` beside it, or the data's own in order.

    Raises:
        ConfigError: The file holds no names, or there are none at all.
    """
    path = config.classes or (
        beside.parent / "labels.json" if beside and (beside.parent / "labels.json").is_file() else None
    )
    if path is None:
        if not known:
            raise ConfigError(
                "the classes of the model are not known: name them in the order of its outputs with --classes FILE"
            )
        return known
    try:
        text = path.read_text(encoding="utf-8")
        names = (
            json.loads(text)
            if path.suffix == ".json"
            else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the class names in '{path}' cannot be read ({error}): give a JSON list, or one name a line"
        ) from error
    if isinstance(names, dict):  # {"0": "cat"} is common, too
        names = [names[key] for key in sorted(names, key=lambda k: (len(str(k)), str(k)))]
    if not isinstance(names, list) or len(names) < 2 or len(set(map(str, names))) < len(names):
        raise ConfigError(
            f"'{path}' should hold two or more different class names: a JSON list, or one name a line"
        )
    return tuple(map(str, names))


def _onnx_model(path: Path, config: Asking, known: tuple[str, ...]) -> OutsideModel:
    import onnxruntime as ort

    meta = path.parent / "model.json"
    if meta.is_file() and isinstance(read_json(meta), dict) and "classifier" in read_json(meta):
        return RunModel(path, load_bundle(path.parent))
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises whatever lies beneath
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"'{path}' cannot be opened as an ONNX model ({reason}): export it again"
        ) from error
    entry = session.get_inputs()[0]
    if len(entry.shape) != 4 or entry.shape[1] not in (3, "3") or "float" not in entry.type:
        raise ConfigError(
            f"'{path}' takes {entry.type} {entry.shape}: a model that is asked takes float images (n, 3, height, width); give one that "
            "does, or from Python a function that calls it"
        )
    size, classes = _side(path, entry.shape[2:], config), class_names(config, path, known)
    output = _answering(session.get_outputs(), len(classes))
    batch = entry.shape[0] if isinstance(entry.shape[0], int) else _BATCH
    half = "float16" in entry.type

    def call(images: NDArray[np.float32]) -> NDArray[np.floating]:
        short = batch - len(images) if isinstance(entry.shape[0], int) else 0
        padded = (
            np.concatenate([images, np.zeros((short, *images.shape[1:]), np.float32)]) if short else images
        )
        said = session.run([output], {entry.name: padded.astype(np.float16) if half else padded})[0]
        return np.asarray(said)[: len(images)]

    return OwnModel(str(path), call, _preprocess(size, config), config, classes, batch, path)


def _side(path: Path, sides: Sequence[Any], config: Asking) -> int:
    """Return the side of the square that a file takes, whose own height and width are numbers where they are fixed.

    Raises:
        ConfigError: It takes no square, or another one than was asked for.
    """
    fixed = [side for side in sides if isinstance(side, int)]
    asked = config.input.size if isinstance(config.input.size, int) else fixed[0] if fixed else _SIZE
    if len(set(fixed)) > 1:
        raise ConfigError(
            f"'{path}' takes images of {fixed[0]} x {fixed[1]} pixels, and a model that is asked takes squares: from Python, give a "
            "function that calls it"
        )
    if fixed and fixed[0] != asked:
        raise ConfigError(
            f"'{path}' takes images of {fixed[0]} pixels only: leave input.size={asked} out, or export it again for that size"
        )
    return asked


def _answering(outputs: Sequence[Any], classes: int) -> str:
    """Return the name of a file's output that answers: the first with a column for each class, where it gives features as well."""
    fitting = (one.name for one in outputs if len(one.shape) == 2 and one.shape[1] == classes)
    return str(next(fitting, outputs[0].name))


def _own_network(model: Any, config: Asking, known: tuple[str, ...]) -> OutsideModel:
    import torch
    from torch import nn

    if not callable(model):
        raise ConfigError(
            f"model= takes a run directory, an ONNX file, a timm name, a torch Module or a function, not a {type(model).__name__}"
        )
    where = next((p.device for p in model.parameters()), None) if isinstance(model, nn.Module) else None

    def call(images: NDArray[np.float32]) -> NDArray[np.floating]:
        batch = torch.from_numpy(images)
        with torch.inference_mode(), _at_rest(model):
            said = model(batch if where is None else batch.to(where))
        said = getattr(said, "logits", said)  # Hugging Face's outputs
        if isinstance(said, tuple | Mapping):
            raise ConfigError(
                f"the model '{name}' gives a {type(said).__name__}, not an array of logits or probabilities (images, classes): "
                "give a function that picks it out"
            )
        return said.float().cpu().numpy() if isinstance(said, torch.Tensor) else np.asarray(said)

    size = config.input.size if isinstance(config.input.size, int) else _SIZE
    name = getattr(model, "__name__", type(model).__name__)
    return OwnModel(name, call, _preprocess(size, config), config, class_names(config, None, known))


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """Let a module predict while the block runs, and go on with training afterwards where somebody trains it."""
    from torch import nn

    training = [part for part in model.modules() if part.training] if isinstance(model, nn.Module) else []
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _preprocess(size: int, config: Asking) -> Preprocess:
    return Preprocess(size, config.input.mean, config.input.std)
