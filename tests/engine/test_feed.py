"""Which images a step sees: every one once a round, dealt out without overlap, the same whenever it is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fallow.augment import mixup, one_hot
from fallow.engine import Feed, LoopSettings, Stream, derive
from fallow.methods import Batch, Views
from tests.engine.digits import SAME, changed, material, noise

VIEWS = Views(("weak",), ("weak", "strong"))
CPU = torch.device("cpu")


@pytest.mark.parametrize(("count", "size"), [(7, 3), (3, 7), (5, 5), (1, 4), (100, 16)])
def test_a_stream_has_every_item_once_a_round_however_it_is_cut_into_batches(count: int, size: int) -> None:
    stream, rounds = Stream(count, 5, "labeled"), 6
    taken = torch.cat([stream.take(n * size, size) for n in range(-(-rounds * count // size))])
    for round_ in taken[: rounds * count].view(rounds, count):
        assert round_.sort().values.tolist() == list(range(count))
    assert torch.equal(taken[: rounds * count], Stream(count, 5, "labeled").take(0, rounds * count))


def test_a_stream_has_no_state_but_the_position() -> None:
    stream = Stream(10, 5, "labeled")
    later, earlier = stream.take(57, 9), stream.take(13, 9)
    assert torch.equal(later, Stream(10, 5, "labeled").take(57, 9))
    assert torch.equal(earlier, Stream(10, 5, "labeled").take(13, 9))


def test_rounds_names_and_seeds_give_other_orders() -> None:
    orders = [
        Stream(50, 5, "labeled").take(0, 50),
        Stream(50, 5, "labeled").take(50, 50),
        Stream(50, 6, "labeled").take(0, 50),
        Stream(50, 5, "unlabeled").take(0, 50),
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_derived_seeds_depend_on_all_that_they_are_derived_from() -> None:
    seeds = {derive(s, name, n) for s in range(5) for name in ("a", "b") for n in range(20)}
    assert len(seeds) == 200
    assert derive(3, "a", 1) == derive(3, "a", 1)


def feed(settings: LoopSettings, *, views: Views = VIEWS, rank: int = 0, of: int = 1, **how: object) -> Feed:
    made = Feed(material(), noise(), views, settings, **how)  # type: ignore[arg-type]
    made.place(CPU, rank, of)
    return made


def tensors(batch: Batch) -> list[Tensor]:
    affines = [v.affine for v in (*batch.labeled_views, *batch.unlabeled_views) if v.affine is not None]
    return [batch.index, batch.targets, *batch.labeled, *batch.unlabeled, *affines]


def assert_same(one: Batch, other: Batch) -> None:
    for mine, theirs in zip(tensors(one), tensors(other), strict=True):
        assert torch.equal(mine, theirs)


def test_a_batch_is_the_same_whenever_it_is_asked_and_whatever_was_drawn_before() -> None:
    settings = changed()
    used = feed(settings)
    for step in (0, 9, 3):
        used.batch(step)
    torch.manual_seed(99)
    assert_same(used.batch(5), feed(settings).batch(5))
    assert not torch.equal(used.batch(5).labeled[0], used.batch(6).labeled[0])
    assert not torch.equal(used.batch(5).unlabeled[1], feed(changed(seed=9)).batch(5).unlabeled[1])


def test_views_of_one_image_are_noised_apart_and_labels_and_positions_go_with_the_images() -> None:
    plain = Feed(material(), SAME, VIEWS, changed()).batch(2)
    noised = feed(changed()).batch(2)
    assert_same(replace(noised, labeled=(), unlabeled=(), labeled_views=(), unlabeled_views=()),
                replace(plain, labeled=(), unlabeled=(), labeled_views=(), unlabeled_views=()))  # fmt: skip
    stuff = material()
    rows = stuff.unlabeled[plain.index]
    expected = torch.from_numpy(stuff.pixels[rows.numpy()]).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(plain.unlabeled[0], expected)
    assert torch.equal(plain.unlabeled[1], expected)
    assert not torch.equal(noised.unlabeled[0], noised.unlabeled[1])
    assert [view.strong for view in noised.unlabeled_views] == [False, True]
    two = feed(changed(), views=Views(("strong", "strong"), ())).batch(2)
    assert not torch.equal(two.labeled[0], two.labeled[1])
    assert two.unlabeled == ()


@pytest.mark.parametrize(("accumulate", "of"), [(1, 2), (2, 1), (3, 1), (2, 3)])
def test_parts_and_processes_share_a_batch_out_between_them(accumulate: int, of: int) -> None:
    whole = Feed(material(), SAME, VIEWS, changed(batch_size=6, unlabeled_batch=12)).batch(4)
    settings = changed(batch_size=6, unlabeled_batch=12, accumulate=accumulate)
    shares = [feed(settings, rank=r, of=of).batch(4, p) for r in range(of) for p in range(accumulate)]
    assert len({len(share.index) for share in shares}) == 1
    index = torch.cat([share.index for share in shares])
    assert index.sort().values.tolist() == whole.index.sort().values.tolist()
    targets = torch.cat([share.targets for share in shares])
    assert targets.sort().values.tolist() == whole.targets.sort().values.tolist()


def test_a_batch_that_does_not_divide_is_rounded_up_so_that_no_process_goes_without() -> None:
    for of, expected in ((4, 2), (9, 1)):
        sizes = [len(feed(changed(batch_size=5), rank=rank, of=of).batch(0).targets) for rank in range(of)]
        assert sizes == [expected] * of


def test_images_that_weigh_more_are_drawn_more_often() -> None:
    stuff = material()
    favored = torch.where(stuff.targets == 2, 10.0, 1.0)
    made = Feed(replace(stuff, labeled_weights=favored), SAME, VIEWS, changed(batch_size=50))
    drawn = torch.cat([made.batch(step).targets for step in range(20)])
    share = float((drawn == 2).float().mean())
    assert abs(share - 10 / 13) < 0.06
    shares = []
    for rank in range(2):
        made.place(CPU, rank, 2)
        shares.append(made.batch(3).targets)
    made.place(CPU)
    assert torch.equal(torch.stack(shares, 1).flatten(), made.batch(3).targets)


def test_mixed_images_are_the_same_whenever_they_are_asked_and_targets_are_mixed_likewise() -> None:
    stuff = replace(material(), targets=one_hot(material().targets, 4))

    def mix(images: Tensor, targets: Tensor, drawn: torch.Generator) -> tuple[Tensor, Tensor]:
        return mixup(images, targets, 1.0, drawn)

    one, two = (Feed(stuff, SAME, VIEWS, changed(), mix=mix) for _ in range(2))
    two.batch(0)
    assert_same(one.batch(3), two.batch(3))
    plain = Feed(stuff, SAME, VIEWS, changed()).batch(3)
    mixed = one.batch(3)
    assert not torch.equal(mixed.labeled[0], plain.labeled[0])
    assert not torch.equal(mixed.targets, plain.targets)
    assert torch.allclose(mixed.targets.sum(1), torch.ones(6))
    assert torch.equal(mixed.unlabeled[1], plain.unlabeled[1])


def test_how_far_images_are_trusted_goes_with_their_position() -> None:
    stuff = material()
    trust = torch.linspace(0, 1, len(stuff.unlabeled))
    batch = Feed(replace(stuff, weights=trust), SAME, VIEWS, changed()).batch(1)
    assert batch.weights is not None
    assert torch.equal(batch.weights, trust[batch.index])
