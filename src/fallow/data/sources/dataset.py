"""Any torch ``Dataset`` of images, or of (image, label) pairs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from fallow.data.images import ImageError
from fallow.data.sources.arrays import encode_array, is_array, plain_label
from fallow.data.sources.base import Row, Source, batches, class_name
from fallow.errors import DataError
from fallow.types import Split


class DatasetSource(Source):
    """Reads torch data sets (anything with ``__len__`` and ``__getitem__``).

    Items are an image or (image, label, ...); an image is a PIL image, a NumPy array (h, w[, c]) or a tensor
    ([c, ]h, w), uint8, uint16 or float from 0 to 1. Give data sets *without* augmentation: an image has to be
    the same each time. Labels come from ``.targets`` where the data set has them (torchvision's do), so that
    no image is read twice; class names from ``.classes``. Items are fetched one at a time, because few data
    sets are made for threads.

    Args:
        train: Labeled images; label None or -1 = unlabeled.
        unlabeled: Images whose labels, if any, are not looked at.
        val: Labeled images for choosing.
        test: Labeled images for the final figures.

    Raises:
        DataError: An item is neither an image nor a pair.
    """

    name: ClassVar[str] = "dataset"

    def __init__(self, train: Any, unlabeled: Any = None, val: Any = None, test: Any = None) -> None:
        super().__init__()
        given: dict[Split, Any] = {"train": train, "val": val, "test": test, "unlabeled": unlabeled}
        self._sets = {split: dataset for split, dataset in given.items() if dataset is not None}
        for split, dataset in self._sets.items():
            if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
                raise DataError(
                    f"the data set for {split} has no length or cannot be indexed: give a map-style Dataset"
                )
        self._lock = Lock()

    def describe(self) -> str:
        """Return what was recognized, in one line."""
        return "data set: " + ", ".join(
            f"{split} {len(d)} ({type(d).__name__})" for split, d in self._sets.items()
        )

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield one row per item; ids are ``dataset:<split>:<index>``."""
        return batches(self._rows())

    def _rows(self) -> Iterator[Row]:
        for split, dataset in self._sets.items():
            labels = [None] * len(dataset) if split == "unlabeled" else self._labels(dataset, split)
            for index, label in enumerate(labels):
                yield Row(f"dataset:{split}:{index}", split, label)

    def _labels(self, dataset: Any, split: str) -> list[str | None]:
        classes = _classes(dataset)
        raw = _targets(dataset)
        if raw is None:
            raw = [self._label(dataset, index, split) for index in range(len(dataset))]
        names = [plain_label(label, split) for label in raw]
        if classes is None:
            return names
        return [
            class_name(str(classes[int(n)])) if n is not None and n.isdigit() and int(n) < len(classes) else n
            for n in names
        ]

    def _label(self, dataset: Any, index: int, split: str) -> Any:
        try:
            with self._lock:
                item = dataset[index]
        except Exception as error:  # the user's code: whatever it raises, this item has no label
            if index == 0:
                raise DataError(f"the data set for {split} fails at item 0: {error}") from error
            return None
        return item[1] if isinstance(item, (tuple, list)) and len(item) > 1 else None

    def open(self, uri: str) -> bytes:
        """Return the image of one item, without loss."""
        _, split, index = [*uri.split(":"), "", ""][:3]
        if split not in self._sets or not index.isdigit():
            raise ImageError("there is no such item in the data sets", "missing", uri)
        try:
            with self._lock:
                item = self._sets[split][int(index)]
        except Exception as error:
            raise ImageError(f"the data set fails at this item ({error})", "unreadable", uri) from error
        return _encode(item[0] if isinstance(item, (tuple, list)) else item, uri)


def _encode(image: Any, uri: str) -> bytes:
    if isinstance(image, Image.Image):
        return _encode_pil(image)
    if not is_array(image):
        raise ImageError(f"a {type(image).__name__} is not an image", "not_an_image", uri)
    tensor = not isinstance(image, np.ndarray)
    array: np.ndarray[Any, Any] = image.detach().cpu().numpy() if tensor else image
    if array.ndim not in (2, 3):
        raise ImageError(f"an array of shape {array.shape} is not an image", "not_an_image", uri)
    if array.dtype.kind == "f" and array.size and (array.min() < 0 or array.max() > 1):
        raise ImageError("its values are not from 0 to 1; take out the normalization", "not_an_image", uri)
    first = array.ndim == 3 and array.shape[0] in (1, 3, 4) and (tensor or array.shape[2] not in (1, 3, 4))
    return encode_array(array, first, uri)


def _encode_pil(image: Image.Image) -> bytes:
    content = io.BytesIO()
    if image.mode in ("L", "RGB", "RGBA"):
        np.save(content, np.asarray(image), allow_pickle=False)
    elif image.mode in ("1", "P", "LA", "I;16"):
        image.save(content, "PNG", compress_level=1)
    else:
        image.save(content, "TIFF")
    return content.getvalue()


def _targets(dataset: Any) -> list[Any] | None:
    """Return all labels where they can be had without loading images, else None."""
    indices, inner = getattr(dataset, "indices", None), getattr(dataset, "dataset", None)
    if indices is not None and inner is not None:  # torch.utils.data.Subset
        whole = _targets(inner)
        return None if whole is None else [whole[int(i)] for i in indices]
    targets = getattr(dataset, "targets", None)
    if (
        targets is None
        or getattr(dataset, "target_transform", None) is not None
        or len(targets) != len(dataset)
    ):
        return None
    return list(targets.tolist() if is_array(targets) else targets)


def _classes(dataset: Any) -> list[Any] | None:
    classes = getattr(dataset, "classes", None)
    if classes is None and getattr(dataset, "indices", None) is not None:
        return _classes(getattr(dataset, "dataset", None))
    return list(classes) if isinstance(classes, (list, tuple)) else None
