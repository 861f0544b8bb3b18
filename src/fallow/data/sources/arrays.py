"""Images that are arrays in memory: NumPy or torch."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fallow.data.images import ImageError
from fallow.data.sources.base import Row, Source, batches, class_name
from fallow.errors import DataError
from fallow.types import Split

Layout = Literal["NHW", "NHWC", "NCHW"]


def is_array(value: Any) -> bool:
    """Return whether ``value`` is a NumPy array or a torch tensor; torch is not imported to find out."""
    return isinstance(value, np.ndarray) or _is_tensor(value)


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "numpy")


class ArraySource(Source):
    """Reads arrays of images.

    Images are (n, h, w), (n, h, w, c) or, as torch has them, (n, c, h, w), with 1, 3 or 4 channels; uint8,
    uint16, bool or float from 0 to 1. Where both readings of the shape are possible NumPy arrays have the
    channels last and tensors first. Labels are integers or strings; None, -1, NaN and "" mean unlabeled.

    Args:
        train: (images, labels); labels None = none is labeled.
        unlabeled: Images without labels.
        val: (images, labels) for choosing.
        test: (images, labels) for the final figures.

    Raises:
        DataError: Shapes, types or lengths do not fit.
    """

    name: ClassVar[str] = "arrays"

    def __init__(
        self,
        train: tuple[Any, Any],
        unlabeled: Any | None = None,
        val: tuple[Any, Any] | None = None,
        test: tuple[Any, Any] | None = None,
    ) -> None:
        super().__init__()
        given: dict[Split, Any] = {"train": train, "val": val, "test": test}
        self._images: dict[str, tuple[npt.NDArray[Any], Layout]] = {}
        self._labels: dict[str, list[str | None]] = {}
        for split, pair in given.items():
            if pair is None:
                continue
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise DataError(f"{split}= of array data takes a pair (images, labels)")
            self._add(split, pair[0], pair[1])
        if unlabeled is not None:
            self._add("unlabeled", unlabeled, None)

    def describe(self) -> str:
        """Return what was recognized, in one line."""
        return "arrays: " + ", ".join(
            f"{split} {'x'.join(map(str, array.shape))} {array.dtype}"
            for split, (array, _) in self._images.items()
        )

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield one row per image; ids are ``array:<split>:<index>``."""
        return batches(self._rows())

    def _rows(self) -> Iterator[Row]:
        for split in ("train", "val", "test", "unlabeled"):
            for index, label in enumerate(self._labels.get(split, ())):
                yield Row(f"array:{split}:{index}", split, label)

    def open(self, uri: str) -> bytes:
        """Return one image as `numpy.save` writes it."""
        kind, _, rest = uri.partition(":")
        split, _, index = rest.partition(":")
        if kind != "array" or split not in self._images or not index.isdigit():
            raise ImageError("there is no such image in the arrays", "missing", uri)
        array, layout = self._images[split]
        if int(index) >= len(array):
            raise ImageError("there is no such image in the arrays", "missing", uri)
        return encode_array(array[int(index)], layout == "NCHW", uri)

    def _add(self, split: Split, images: Any, labels: Any) -> None:
        array, layout = _images(images, split)
        self._images[split] = (array, layout)
        self._labels[split] = [None] * len(array) if labels is None else plain_labels(labels, split)
        if len(self._labels[split]) != len(array):
            raise DataError(
                f"{split} has {len(array)} images and {len(self._labels[split])} labels: give one for each"
            )


def _images(images: Any, split: str) -> tuple[npt.NDArray[Any], Layout]:
    if not is_array(images):
        raise DataError(
            f"the images of {split} should be one array, not a {type(images).__name__}: images of one size become one "
            "with np.stack(images); others are best left as files"
        )
    tensor = _is_tensor(images)
    array: npt.NDArray[Any] = images.detach().cpu().numpy() if tensor else images
    first, last = (
        array.ndim == 4 and array.shape[1] in (1, 3, 4),
        array.ndim == 4 and array.shape[3] in (1, 3, 4),
    )
    if array.ndim != 3 and not first and not last:
        raise DataError(
            f"the images of {split} have the shape {tuple(array.shape)}: expected (n, h, w), (n, h, w, c) or "
            "(n, c, h, w) with 1, 3 or 4 channels"
        )
    _check_values(array, f"the images of {split}")
    if array.ndim == 3:
        return array, "NHW"
    return array, "NCHW" if first and (tensor or not last) else "NHWC"


def _check_values(array: npt.NDArray[Any], what: str) -> None:
    if array.dtype in (np.uint8, np.uint16, np.bool_) or array.size == 0:
        return
    if array.dtype.kind not in "fiu":
        raise DataError(f"{what} hold {array.dtype}: expected uint8, uint16 or float from 0 to 1")
    finite = array[np.isfinite(array)]
    if not finite.size:  # each image is told as damaged when it is read
        return
    low, high = float(finite.min()), float(finite.max())
    limit = 1.0 if array.dtype.kind == "f" else 65535.0
    if low < 0 or high > limit:
        raise DataError(
            f"{what} hold {array.dtype} from {low:g} to {high:g}: expected uint8, uint16 or float in 0..1, "
            "so scale them first (and take out any normalization)"
        )


def encode_array(image: npt.NDArray[Any], channels_first: bool, name: str) -> bytes:
    """Return one image, (h, w), (h, w, c) or (c, h, w), as `numpy.save` writes it, in uint8 or uint16.

    Raises:
        ImageError: It holds NaN or infinity.
    """
    if channels_first:
        image = np.moveaxis(image, 0, -1)
    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise ImageError("it holds values that are not finite", "damaged", name)
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    elif image.dtype == np.bool_:
        image = image.astype(np.uint8) * np.uint8(255)
    elif image.dtype not in (np.uint8, np.uint16):
        image = image.astype(np.uint8 if image.size == 0 or image.max() <= 255 else np.uint16)
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(image), allow_pickle=False)
    return content.getvalue()


def plain_labels(labels: Any, split: str) -> list[str | None]:
    """Return labels as class names, None where there is none.

    Raises:
        DataError: They are not one integer or string an image.
    """
    if is_array(labels):
        if labels.ndim != 1:
            raise DataError(
                f"the labels of {split} have the shape {tuple(labels.shape)}: expected (n,), one an image"
            )
        labels = labels.tolist()
    return [plain_label(label, split) for label in labels]


def plain_label(label: Any, split: str) -> str | None:
    """Return one label as a class name, None where there is none.

    Raises:
        DataError: It is neither an integer nor a string.
    """
    if (is_array(label) and label.ndim == 0) or isinstance(label, np.generic):
        label = label.item()
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return None
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, int):
        return None if label == -1 else str(int(label))
    if isinstance(label, str):
        return class_name(label.strip()) or None
    raise DataError(f"the labels of {split} hold {label!r}: expected one integer or string an image")
