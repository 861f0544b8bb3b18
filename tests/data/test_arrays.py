from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from fallow.data import ArraySource, DatasetSource, ImageReader, ImageTable, audit, open_source
from fallow.data.sources import Source
from fallow.errors import DataError
from tests.data.conftest import picture

IMAGES = np.stack([picture(i, 20, 24) for i in range(6)])
LABELS = [0, 1, 0, 1, 0, 1]


def pixels(source: Source, id_: str) -> np.ndarray:
    found = audit(source)
    return ImageReader(source, found.table, found.scale).read(id_)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        np.moveaxis(IMAGES, 3, 1),
        torch.from_numpy(np.moveaxis(IMAGES, 3, 1).copy()),
        torch.from_numpy(np.moveaxis(IMAGES, 3, 1).copy()).float() / 255,
        IMAGES.astype(np.float64) / 255,
        IMAGES.astype(np.int64),
    ],
    ids=["NHWC", "NCHW", "tensor", "float tensor", "float", "int64"],
)
def test_layouts_and_types(images: object) -> None:
    np.testing.assert_array_equal(pixels(open_source((images, LABELS)), "array:train:3"), IMAGES[3])


def test_gray_and_sixteen_bits() -> None:
    gray = IMAGES[..., 0]
    np.testing.assert_array_equal(pixels(ArraySource((gray, LABELS)), "array:train:1")[..., 2], gray[1])
    deep = ArraySource((gray.astype(np.uint16) * 16, LABELS))
    found = audit(deep)
    assert found.scale is not None
    assert found.scale.high <= 255 * 16
    assert [d.name for d in found.decisions] == ["data.pixel_scale"]
    assert found.channels == "gray"
    # What two hundred shades were in 12 of 16 bits is not left in the darkest sixteenth.
    assert ImageReader(deep, found.table, found.scale).read("array:train:0").max() > 200


def test_labels_of_all_kinds() -> None:
    mixed = ["cat", None, -1, float("nan"), 3, np.int64(4)]
    found = ImageTable.from_batches(open_source((IMAGES, mixed)).rows())
    assert list(found.labels().values()) == ["cat", "3", "4"]
    tensor = ImageTable.from_batches(open_source((IMAGES, torch.tensor([0, -1, 2, 0, 1, 1]))).rows())
    assert list(tensor.labels().values()) == ["0", "2", "0", "1", "1"]


def test_splits_and_ids() -> None:
    source = open_source((IMAGES, LABELS), unlabeled=IMAGES[:2] // 2, test=(IMAGES // 3, LABELS))
    found = audit(source)
    assert found.counts()["unlabeled"] == 2
    assert found.counts()["test"] == 6
    assert "array:unlabeled:1" in found.table
    assert len(audit(open_source(IMAGES)).table.ids("unlabeled")) == 6


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, "0..1"),
        (IMAGES.astype(np.float32) / 255 - 0.5, LABELS, "0..1"),
        (IMAGES, LABELS[:5], "6 images and 5 labels"),
        (IMAGES[0, 0], LABELS, "shape"),
        (np.zeros((6, 8, 8, 7), np.uint8), LABELS, "shape"),
        (IMAGES, np.eye(6), r"expected \(n,\)"),
        (IMAGES, [(1, 2)] * 6, "one integer or string"),
        (IMAGES.astype(complex), LABELS, "complex"),
    ],
)
def test_arrays_that_do_not_fit(images: object, labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source((images, labels))


class Pictures(Dataset[tuple[Image.Image, int]]):
    """A data set of PIL images that counts how often it is asked."""

    classes = ("cat", "dog")

    def __init__(self, mode: str = "RGB") -> None:
        self.mode = mode
        self.asked = 0

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.asked += 1
        if index == 5:
            raise RuntimeError("disk on fire")
        return Image.fromarray(IMAGES[index]).convert(self.mode), LABELS[index]


def test_dataset_of_pil_images() -> None:
    found = audit(open_source(Pictures()))
    assert found.class_counts("train") == {"cat": 3, "dog": 2}
    # An item that fails has no label, so it would have been unlabeled.
    assert [(s.id, s.kind, s.split) for s in found.skipped] == [
        ("dataset:train:5", "unreadable", "unlabeled")
    ]
    reader = ImageReader(found.source, found.table, found.scale)
    np.testing.assert_array_equal(reader.read("dataset:train:2"), IMAGES[2])


def test_targets_spare_reading_twice() -> None:
    dataset = Pictures("L")
    dataset.targets = LABELS  # type: ignore[attr-defined]
    found = audit(DatasetSource(train=Subset(dataset, [0, 1, 2])))
    assert dataset.asked == 3
    assert found.class_counts("train") == {"cat": 2, "dog": 1}
    assert found.channels == "gray"


def test_tensor_dataset_and_unlabeled() -> None:
    images = torch.from_numpy(np.moveaxis(IMAGES, 3, 1).copy())
    source = open_source(TensorDataset(images, torch.tensor(LABELS)), unlabeled=TensorDataset(images // 2))
    found = audit(source)
    assert (found.counts()["labeled"], found.counts()["unlabeled"]) == (6, 6)
    np.testing.assert_array_equal(ImageReader(source, found.table).read("dataset:train:1"), IMAGES[1])


def test_normalized_dataset_is_told() -> None:
    images = torch.randn(4, 3, 20, 20)
    found = audit(open_source(TensorDataset(images, torch.tensor([0, 1, 0, 1]))))
    assert len(found.table) == 0
    assert "normalization" in found.skipped[0].reason
