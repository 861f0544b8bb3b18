"""The ``model/`` folder: everything that leaves, written whole or not at all, and read back with care."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Condition
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fallow._version import __version__
from fallow.data import PixelScale, cores, default_workers, in_order
from fallow.errors import DataError, RunError
from fallow.export.folder import digest, recover, whole_folder, write_tensors
from fallow.export.onnx_graph import IMAGE, PROBS, export_onnx
from fallow.models import Backbone, EmbeddingClassifier, backbone_from_state
from fallow.models.saved import BACKBONE
from fallow.record import read_json, write_json
from fallow.record.rundir import write_bytes
from fallow.types import JsonObject

TENSORS, GRAPH, LABELS, META, CARD = (
    "model.safetensors",
    "model.onnx",
    "labels.json",
    "model.json",
    "README.md",
)
FORMAT = 1

_VALUES = 3 * 2**26
"""Pixel values that may be in the model at a time, five photos of 12 megapixels: a run takes six times that in bytes."""

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")

_SNIPPET = """
## Use it

Needs `pip install onnxruntime pillow` and nothing else; resizing and normalization are inside the model.

```python
import json, numpy as np, onnxruntime as ort
from PIL import Image, ImageOps

model = ort.InferenceSession("model.onnx")
classes = json.load(open("labels.json", encoding="utf-8"))
image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
image = np.asarray(image.convert("RGB"))
probs = model.run(["probs"], {"image": image})[0]
print(classes[probs.argmax()], float(probs.max()))
```
"""


def save_bundle(
    directory: Path,
    classifier: EmbeddingClassifier,
    backbones: Mapping[str, Backbone],
    *,
    classes: Sequence[str],
    task: str,
    card: str,
    extra: JsonObject | None = None,
    cache: Path | None = None,
) -> None:
    """Write the model folder: ``model.safetensors``, ``model.onnx``, ``labels.json``, ``model.json``,
    ``README.md``.

    All files are written to a folder beside it, which then takes its place, so a kill leaves the old or the
    new one.

    Args:
        directory: The folder; one that is there is replaced.
        classifier: The heads.
        backbones: By name, those that the branches use.
        classes: Names of the classes in the order of the outputs.
        task: ``classification`` or ``binary``.
        card: Text of the model card (Markdown); a snippet that shows the use is added.
        extra: More plain values for ``model.json``. ``pixel_scale`` (``[low, high]`` or None) is how images
            of more than 8 bits are to be decoded.
        cache: Directory with backbone graphs, as for `export_onnx`.

    Raises:
        RunError: The classes do not match, the model cannot be expressed in ONNX, or the disk is full.
    """
    if tuple(classes) != classifier.classes:
        raise RunError("the classes given are not those of the model: give the same names in the same order")
    with whole_folder(directory) as temporary:
        export_onnx(classifier, backbones, temporary / GRAPH, task=task, cache=cache)
        state, meta = classifier.state()
        arrays = {f"classifier.{name}": array for name, array in state.items()}
        write_tensors(temporary / TENSORS, {**arrays, **_states(backbones)})
        write_json(temporary / LABELS, list(classes))
        (temporary / CARD).write_bytes(_card(card))
        files = {path.name: digest(path) for path in sorted(temporary.iterdir())}
        described = {name: _describe(backbone) for name, backbone in backbones.items()}
        write_json(
            temporary / META,
            {
                **(extra or {}),
                "format": FORMAT,
                "fallow_version": __version__,
                "task": task,
                "classes": list(classes),
                "classifier": meta,
                "backbones": described,
                "files": files,
            },
        )


def _card(text: str) -> bytes:
    return (text.rstrip() + "\n" + _SNIPPET).encode(errors="backslashreplace")


def write_card(directory: Path, card: str) -> None:
    """Write the model card of a bundle again; everything else in it stays as it is.

    Args:
        directory: The model folder.
        card: Text of the card, as for `save_bundle`.

    Raises:
        RunError: The disk is full.
    """
    write_bytes(directory / CARD, _card(card))


def _states(backbones: Mapping[str, Backbone]) -> dict[str, Any]:
    return {
        f"backbones.{name}.{key}": tensor
        for name, backbone in backbones.items()
        for key, tensor in backbone.module.state_dict().items()
    }


def _describe(backbone: Backbone) -> JsonObject:
    return {
        "architecture": backbone.architecture,
        "weights_id": backbone.weights_id,
        "dim": backbone.dim,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "default_size": backbone.default_size,
        "note": backbone.note,
    }


class Deployed:
    """A model folder, ready to predict. Each image is looked at on its own, through ``model.onnx``.

    Attributes:
        directory: The folder.
        path: The file that answers; ``model.onnx`` unless another was named.
        meta: The content of ``model.json``.
        classes: Names of the classes in the order of the probabilities.
        task: ``classification`` or ``binary``.
    """

    def __init__(self, directory: Path, meta: Mapping[str, Any], graph: str = GRAPH) -> None:
        self.directory, self.path = directory, directory / graph
        self.meta = meta
        self.classes: tuple[str, ...] = tuple(meta["classes"])
        self.task: str = meta["task"]
        self._sessions: dict[int, Any] = {}

    @property
    def pixel_scale(self) -> PixelScale | None:
        """How images of more than 8 bits were decoded for training, and have to be now."""
        scale = self.meta.get("pixel_scale")
        return PixelScale(*scale) if scale else None

    def _session(self, threads: int) -> Any:
        if threads not in self._sessions:
            import onnxruntime as ort

            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.log_severity_level = 3
            self._sessions[threads] = ort.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[threads]

    def predict_probs(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return calibrated probabilities (n, c) float32 of uint8 (H, W, 3) RGB images of any size.

        Raises:
            DataError: An image is not uint8 (H, W, 3).
        """
        for position, image in enumerate(images):
            _check(image, f"image {position}")
        if not len(images):
            return np.zeros((0, len(self.classes)), np.float32)
        if len(images) == 1:
            return self._outputs(images[0], threads=cores())[0][None]
        # Many images go side by side, a core each: faster than one after the other on all cores.
        self._session(1)  # made here once, and not by every thread
        with ThreadPoolExecutor(min(len(images), cores())) as pool:
            return np.stack([said for (said,) in pool.map(self._outputs, images)])

    def stream(
        self, items: Iterable[Item], read: Callable[[Item], Pixels | None]
    ) -> Iterator[tuple[Item, NDArray[np.float32] | None]]:
        """Yield ``(item, probabilities (c,))`` in order, as `answers` does."""
        for item, said in self.answers(items, read, (PROBS,)):
            yield item, None if said is None else said[0]

    def answers(
        self, items: Iterable[Item], read: Callable[[Item], Pixels | None], outputs: Sequence[str]
    ) -> Iterator[tuple[Item, list[NDArray[np.float32]] | None]]:
        """Yield ``(item, outputs)`` in order, as many images in memory as there are threads.

        A thread reads an image, asks the model and lets go of it: many photos of many megapixels cost no more memory than a
        few. Very large ones go through the model one after the other.

        Args:
            items: What to read.
            read: Returns the uint8 (H, W, 3) pixels of one, or None for no answer; called from several threads.
            outputs: Which of the graph's outputs are wanted: ``probs`` (c,), ``logits`` (c,), ``features`` (d,).

        Raises:
            DataError: An image is not uint8 (H, W, 3).
        """

        def answer(item: Item) -> tuple[Item, list[NDArray[np.float32]] | None]:
            image = read(item)
            if image is None:
                return item, None
            _check(image, "an image")
            with room.taken(image.size):
                return item, self._outputs(image, outputs)

        room = _Room(_VALUES)
        self._session(1)  # made here once, and not by every thread
        yield from in_order(answer, items, default_workers())

    def _outputs(
        self, image: Pixels, outputs: Sequence[str] = (PROBS,), threads: int = 1
    ) -> list[NDArray[np.float32]]:
        said: list[NDArray[np.float32]] = self._session(threads).run(list(outputs), {IMAGE: image})
        return said

    def classifier(self) -> EmbeddingClassifier:
        """Return the heads, from ``model.safetensors``."""
        own = {
            name.removeprefix("classifier."): tensor.numpy()
            for name, tensor in self._tensors.items()
            if name.startswith("classifier.")
        }
        return EmbeddingClassifier.from_state(own, self.meta["classifier"])

    def backbones(self) -> dict[str, Backbone]:
        """Return the backbones with the weights that the heads were fitted on, from ``model.safetensors``.

        Raises:
            ConfigError: A backbone is the user's own network, which only its code can rebuild.
        """
        result = {}
        for name, described in self.meta["backbones"].items():
            prefix = f"backbones.{name}."
            own = {k.removeprefix(prefix): v for k, v in self._tensors.items() if k.startswith(prefix)}
            result[name] = backbone_from_state(
                name,
                own,
                f"'{self.directory / TENSORS}'",
                architecture=described.get("architecture"),  # bundles of the first versions do not say it
                size=described["default_size"],
                mean=described["mean"],
                std=described["std"],
            )
        return result

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        from safetensors.torch import load_file

        tensors: dict[str, Any] = load_file(self.directory / TENSORS)
        return tensors


class _Room:
    """Lets threads in while what they hold fits; what is larger than the room goes in alone."""

    def __init__(self, size: int) -> None:
        self._size, self._used, self._change = size, 0, Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Take ``size`` of the room, once it is there."""
        with self._change:
            self._change.wait_for(lambda: self._used == 0 or self._used + size <= self._size)
            self._used += size
        try:
            yield
        finally:
            with self._change:
                self._used -= size
                self._change.notify_all()


def _check(image: Pixels, name: str) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(
            f"{name} has shape {image.shape} and type {image.dtype}: give uint8 pixels of shape (height, width, 3)"
        )


def load_bundle(directory: Path) -> Deployed:
    """Open a model folder that `save_bundle` wrote.

    Raises:
        RunError: The folder or one of its files is missing, damaged, or of a newer format.
    """
    recover(directory)
    if not directory.is_dir():
        raise RunError(f"there is no model folder '{directory}': give the model folder of a finished run")
    meta = read_json(directory / META)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise RunError(
            f"'{directory / META}' has format {found}, not {FORMAT}: use the version of fallow that wrote it"
        )
    if meta.get("kind") == BACKBONE:
        raise RunError(
            f"'{directory}' holds a backbone, which names no classes: train a model with it by  fallow train DATA --backbone "
            f"{directory}"
        )
    lacking = [key for key in ("files", "classes", "task", "classifier", "backbones") if key not in meta]
    if lacking:
        raise RunError(
            f"'{directory / META}' is incomplete (it lacks {', '.join(lacking)}): copy the whole model folder again"
        )
    for name, expected in meta["files"].items():
        path = directory / name
        if name == CARD:
            continue  # prose, which people may edit or leave behind
        if not path.is_file() or digest(path) != expected:
            wrong = "damaged" if path.is_file() else "missing"
            raise RunError(
                f"the file '{path}' is {wrong}: copy the whole model folder again, or train with --resume"
            )
    return Deployed(directory, meta)
