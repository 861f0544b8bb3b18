"""Labeled images of another origin: read beside the data, and never able to change what is found in these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fallow.data import Audit, ImageReader, WithExtra, audit, check_extra, open_source
from fallow.data.sources.extra import MARK
from fallow.errors import DataError


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)


TRAIN, TEST, POOL, MORE = drawn(6, 0), drawn(2, 1), drawn(4, 2), drawn(5, 3)
LABELS = ["cat", "cat", "cat", "dog", "dog", "dog"]


def own() -> dict[str, object]:
    return {"data": (TRAIN, LABELS), "unlabeled": POOL, "test": (TEST, ["cat", "dog"])}


def beside(images: np.ndarray, labels: Sequence[str | None], **others: object) -> Audit:
    main = open_source(**own())  # type: ignore[arg-type]
    return audit(WithExtra(main, open_source((images, labels), **others)))  # type: ignore[arg-type]


def test_extra_images_are_a_split_of_their_own_and_are_read_from_where_they_lie() -> None:
    found = beside(MORE, ["cat", "dog", "cat", "dog", "dog"])
    check_extra(found)
    ids = found.table.ids("extra")
    assert ids == [f"{MARK}array:train:{i}" for i in range(5)]  # the data have an array:train:0 too
    assert found.class_counts("extra") == {"cat": 2, "dog": 3}
    read = ImageReader(found.source, found.table).read
    np.testing.assert_array_equal(read(ids[2]), MORE[2])
    np.testing.assert_array_equal(read("array:train:2"), TRAIN[2])


def test_nothing_that_is_found_in_the_data_depends_on_extra_images() -> None:
    # Two of them are copies with another label, one is wide, one is gray.
    wide = np.concatenate([TRAIN[:1], POOL[:1], MORE, np.full((1, 8, 8, 3), 7, np.uint8)])
    found = beside(wide, ["dog", "dog", *["cat"] * 6])
    alone = audit(open_source(**own()))  # type: ignore[arg-type]
    rest = found.table.keep(i for i in found.table.ids() if not i.startswith(MARK))
    assert rest.images.equals(alone.table.images)
    assert rest.annotations.equals(alone.table.annotations)
    for name in ("given", "channels", "short_side_median", "conflicts", "pool_twins", "scale"):
        assert getattr(found, name) == getattr(alone, name)


def test_copies_of_labeled_and_test_images_leave_the_extra_ones_and_copies_of_the_pool_stay() -> None:
    images = np.concatenate([TEST[:1], TRAIN[4:5], POOL[:1], MORE[:1], MORE[:1], MORE[1:2], MORE[1:2]])
    found = beside(images, ["cat", "dog", "cat", "dog", "dog", "cat", "dog"])
    assert {(leak.id, leak.twin, leak.twin_split) for leak in found.leaks} == {
        (f"{MARK}array:train:0", "array:test:0", "test"),
        (f"{MARK}array:train:1", "array:train:4", "train"),
    }
    # One picture with one label counts once; with two, nobody knows which is right.
    assert [c.ids for c in found.conflicts] == [(f"{MARK}array:train:5", f"{MARK}array:train:6")]
    assert found.table.ids("extra") == [f"{MARK}array:train:2", f"{MARK}array:train:3"]
    assert len(found.table.ids("unlabeled")) == len(POOL)


def test_images_without_a_label_and_test_images_are_left_alone() -> None:
    found = beside(MORE[:3], ["cat", None, "dog"], test=(MORE[3:], ["cat", "dog"]))
    assert isinstance(found.source, WithExtra)
    assert (found.source.taken, found.source.left_out) == (2, {"without a label": 1, "for testing": 2})


def test_the_scale_of_deep_images_is_the_datas_own() -> None:
    deep = np.random.default_rng(0).integers(0, 4000, (6, 8, 8), dtype=np.uint16)
    main = open_source((deep, LABELS))
    bright = open_source((deep + np.uint16(50_000), LABELS))
    assert audit(WithExtra(main, bright)).scale == audit(main).scale
    assert (
        audit(WithExtra(open_source((TRAIN, LABELS)), bright)).scale is not None
    )  # else they would not be read


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["cat", "dgo", "cat", "dog", "dog"], r"the class 'dgo' is in the extra images.*Did you mean 'dog'"),
        ([None] * 5, "the extra images in .* have no labels"),
    ],
)
def test_labels_that_the_data_do_not_know_are_an_error(labels: list[str | None], said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_extra(beside(MORE, labels))
