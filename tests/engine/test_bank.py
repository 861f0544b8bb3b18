"""Batches of maps: one of an image's own views, another in each step, the same whenever they are asked for."""

from __future__ import annotations

import numpy as np
import torch

from fallow.engine import LoopSettings, MapFeed, Maps, Material, Sheet, TwoSheets
from fallow.methods import Views

LABELS, POOL, K = 5, 12, 3


def sheet(rows: int, first: int, offset: float) -> Sheet:
    """Return maps that say which image and view they are of."""
    image = first + np.arange(rows, dtype=np.float32)
    maps = np.zeros((rows, K, 2, 4, 4), np.float16)
    maps[:, :, 0] = image[:, None, None, None]
    maps[:, :, 1] = offset + np.arange(K)[None, :, None, None]
    affine = torch.eye(2, 3).repeat(rows, K, 1, 1)
    affine[:, :, 0, 2] = offset + torch.arange(K)
    return Sheet(maps, affine, rows=first + np.arange(rows))


def feed(pool: list[int] | None = None, seed: int = 0) -> MapFeed:
    material = Material(
        np.zeros((LABELS + POOL, 8, 8, 3), np.uint8),
        torch.tensor([0, 2, 4]),
        torch.tensor([7, 8, 9]),
        torch.arange(LABELS, LABELS + POOL),
    )
    chosen = None if pool is None else torch.tensor(pool)
    strong = sheet(POOL, LABELS, 10)
    if pool is not None:
        strong = Sheet(strong.maps[pool], strong.affine[pool], rows=LABELS + np.array(pool))
    maps = Maps({"weak": sheet(LABELS, 0, 0)}, {"strong": strong}, chosen)
    settings = LoopSettings(10, batch_size=3, unlabeled_batch=6, seed=seed)
    return MapFeed(material, maps, Views(("weak",), ("strong", "strong")), settings)


def test_each_image_is_shown_by_its_own_views_of_the_strength_that_was_asked_for() -> None:
    seen = set()
    for step in range(8):
        batch = feed().batch(step)
        torch.testing.assert_close(batch.labeled[0][:, 0, 0, 0].long(), (batch.targets - 7) * 2)
        for maps, view in zip(batch.unlabeled, batch.unlabeled_views, strict=True):
            assert maps.dtype == torch.float32
            torch.testing.assert_close(maps[:, 0, 0, 0].long(), batch.index + LABELS)
            assert view.affine is not None
            torch.testing.assert_close(view.affine[:, 0, 2], maps[:, 1, 0, 0])
            seen |= set(maps[:, 1, 0, 0].tolist())
    assert seen == {10.0, 11.0, 12.0}


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    one, again, later, other = (feed().batch(3), feed().batch(3), feed().batch(4), feed(seed=1).batch(3))
    assert all(torch.equal(a, b) for a, b in zip(one.unlabeled, again.unlabeled, strict=True))
    assert not torch.equal(one.unlabeled[0], one.unlabeled[1])
    assert not torch.equal(one.unlabeled[0], later.unlabeled[0])
    assert not torch.equal(one.unlabeled[0], other.unlabeled[0])


def test_only_images_that_have_maps_are_drawn_and_they_keep_their_places_in_the_pool() -> None:
    few, drawn = [1, 4, 5, 11], []
    for step in range(4):
        batch = feed(few).batch(step)
        torch.testing.assert_close(batch.unlabeled[0][:, 0, 0, 0].long(), batch.index + LABELS)
        drawn += batch.index.tolist()
    assert set(drawn) == set(few)
    assert len(drawn) == 24
    assert [drawn.count(i) for i in few] == [6, 6, 6, 6]


def test_images_of_two_sheets_are_shown_by_their_own_maps_in_the_order_that_was_asked_for() -> None:
    late = LABELS + POOL
    two = TwoSheets(sheet(LABELS, 0, 0), sheet(4, late, 20), late)
    for rows in (torch.tensor([late + 2, 1, late, 4, 0]), torch.tensor([3, 1]), torch.tensor([late])):
        maps, affine = two.take(rows, torch.Generator().manual_seed(0))
        torch.testing.assert_close(maps[:, 0, 0, 0].long(), rows)
        assert affine is not None
        torch.testing.assert_close(affine[:, 0, 2], maps[:, 1, 0, 0])
        torch.testing.assert_close(maps[:, 1, 0, 0] >= 20, rows >= late)
