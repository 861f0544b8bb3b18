"""Images in nine patches: how they are cut and shuffled, and the losses of Jigsaw and PIRL written out in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fallow.errors import ConfigError
from fallow.methods import PretrainMethod, pretrain_method
from fallow.methods.pretrain.patches import Puzzle, draw_places, even, far_orders
from fallow.models import TokenInfo
from tests.methods.pretrain.digits import make_loop, settings
from tests.methods.pretrain.play import Play, bare, batch_of


@pytest.mark.parametrize("size", [32, 64, 100, 224])
def test_each_patch_lies_in_its_own_cell_with_a_gap_around_it(size: int) -> None:
    puzzle = Puzzle.of(size, 0.8, None)
    where = torch.cartesian_prod(torch.arange(size), torch.arange(size)).float().view(size, size, 2)
    images = where.permute(2, 0, 1)[None].repeat(40, 1, 1, 1)
    exact = Puzzle(puzzle.cell, puzzle.patch, puzzle.patch)
    cut = exact.cut(images, torch.rand(40, 9, 2))
    assert cut.shape == (40, 9, 2, exact.patch, exact.patch)
    assert 0.75 * size / 3 <= puzzle.patch + 1 <= size / 3
    margin = (size - 3 * puzzle.cell) // 2
    for number in range(9):
        corner = margin + puzzle.cell * torch.tensor([number // 3, number % 3])
        inside = cut[:, number] - corner.view(1, 2, 1, 1)
        assert float(inside.min()) >= 0
        assert float(inside.max()) <= puzzle.cell - 1
        starts = {tuple(x) for x in cut[:, number, :, 0, 0].tolist()}
        assert len(starts) > 1  # it moves about
    steps = cut[:, :, 0, 1:, 0] - cut[:, :, 0, :-1, 0]
    assert bool((steps == 1).all())


def test_small_patches_are_enlarged_and_a_transformer_sees_whole_tokens() -> None:
    assert Puzzle.of(32, 0.8, None).shown == Puzzle.of(16, 0.8, None).shown == 8
    assert Puzzle.of(6, 0.8, None).shown == 6
    assert Puzzle.of(224, 0.8, TokenInfo(64, 16, 14, 1)).shown == 64
    cut = Puzzle.of(16, 0.8, None).cut(torch.rand(2, 3, 16, 16), torch.rand(2, 9, 2))
    assert cut.shape == (2, 9, 3, 8, 8)


def test_neither_color_nor_light_nor_contrast_of_a_patch_is_left() -> None:
    patches = torch.rand(2, 9, 3, 8, 8)
    moods = torch.rand(2, 9, 3, 1, 1) + 0.5
    torch.testing.assert_close(even(patches * moods + moods), even(patches), rtol=1e-2, atol=1e-2)
    assert bool(torch.isfinite(even(torch.full((1, 1, 3, 4, 4), 0.3))).all())


def test_orders_are_all_different_and_each_is_as_far_from_those_before_as_any() -> None:
    orders = far_orders(30)
    assert orders.shape == (30, 9)
    assert len({tuple(order) for order in orders.tolist()}) == 30
    assert all(sorted(order) == list(range(9)) for order in orders.tolist())
    drawn = torch.stack([torch.randperm(9) for _ in range(2000)])
    for number in (1, 8, 9, 29):
        before = orders[:number]
        own = (orders[number] != before).sum()
        others = (drawn[:, None] != before).sum((1, 2))
        assert int(own) >= int(others.max())
    assert int((orders[:9, None] != orders[:9]).sum(2).fill_diagonal_(9).min()) == 9


def test_processes_share_out_the_places_that_one_draws() -> None:
    play = Play(bare("rotnet"), step=3)
    whole = draw_places(play, 6, torch.device("cpu"))
    play.world_size = 2
    for play.rank in range(2):
        for part, all_of_it in zip(draw_places(play, 3, torch.device("cpu")), whole, strict=True):
            assert torch.equal(part, all_of_it[play.rank :: 2])


class Pixels(Play):
    """Features that are linear in the pixels: of an image of any size, the mean of its parts by a 2 x 2 grid."""

    def __init__(self, method: PretrainMethod) -> None:
        super().__init__(method)
        self.weight = torch.randn(12, 6, generator=torch.Generator().manual_seed(5)).requires_grad_()

    def one(self, image: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(image, 2).flatten() @ self.weight

    def features(self, *images: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.stack([self.one(image) for image in part]) for part in images)


def assert_same(loss: Tensor, expected: Tensor, of: list[Tensor]) -> None:
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(torch.autograd.grad(loss, of), torch.autograd.grad(expected, of), strict=True):
        assert float(theirs.abs().sum()) > 1e-4
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def patches_of(image: Tensor, puzzle: Puzzle, places: Tensor) -> list[Tensor]:
    found = []
    for number in range(9):
        row, column = (
            (image.shape[1] - 3 * puzzle.cell) // 2 + puzzle.cell * at + int(places[number, axis] * room)
            for axis, at in enumerate(divmod(number, 3))
            for room in [puzzle.cell - puzzle.patch + 1]
        )
        found.append(image[:, row : row + puzzle.patch, column : column + puzzle.patch])
    return found


def test_jigsaw_asks_for_the_order_of_the_patches() -> None:
    method = bare("jigsaw", orders=7, out=4, hidden=8)
    torch.manual_seed(1)
    method.projector = nn.Linear(36, 7)
    play, images = Pixels(method), torch.rand(3, 3, 64, 64)
    torch.manual_seed(2)
    made = method.step(batch_of([images]), play)
    torch.manual_seed(2)
    which = torch.randint(7, (3,))
    drawn = torch.rand(3, 9, 3, generator=torch.Generator().manual_seed(0))
    puzzle, total = Puzzle.of(64, 64 / 75, None), made.loss.new_zeros(())
    assert puzzle.shown == puzzle.patch
    for i in range(3):
        cut = patches_of(images[i], puzzle, drawn[i])
        shown = [cut[k] for k in far_orders(7)[which[i]].tolist()]
        said = []
        for patch in shown:
            mean, spread = patch.mean((1, 2), keepdim=True), patch.var((1, 2), correction=0, keepdim=True)
            said.append(method.narrow(play.one(0.5 + 0.25 * (patch - mean) / (spread + 1e-4).sqrt())))
        total = total - torch.log_softmax(method.projector(torch.cat(said)), 0)[which[i]] / 3
    assert_same(made.loss, total, [play.weight, method.narrow.weight, method.projector.weight])
    assert float(made.health["chance_loss"]) == pytest.approx(math.log(7))


def test_pirl_finds_image_and_patches_in_its_bank() -> None:
    method = bare("pirl", images=6, out=5, puzzles=0.3)
    method.projector = nn.Linear(6, 5)
    play = Pixels(method)
    for step, index in enumerate(([0, 3], [3, 5])):
        play.step = step
        bank = method.bank.values.clone()
        views = [torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)]
        made = method.step(batch_of(views, index), play)
        drawn = torch.rand(2, 9, 3, generator=torch.Generator().manual_seed(step))
        total = made.loss.new_zeros(())
        for i, image in enumerate(index):
            cut = patches_of(views[1][i], Puzzle.of(64, 64 / 85, None), drawn[i])
            order = drawn[i, :, 2].argsort().tolist()
            joined = method.join(torch.cat([method.narrow(play.one(cut[k])) for k in order]))
            whole = method.projector(play.one(views[0][i]))
            for weight, said in ((0.3, joined), (0.7, whole)):
                likely = [torch.exp(said / said.norm() @ entry / 0.07) for entry in bank]
                h = [x / sum(likely) for x in likely]
                nce = -torch.log(h[image]) - sum(torch.log(1 - h[j]) for j in range(6) if j != image)
                total = total + weight * nce / 2
            mixed = 0.5 * bank[image] + 0.5 * (whole / whole.norm()).detach()
            torch.testing.assert_close(method.bank.values[image], mixed / mixed.norm())
        assert_same(made.loss, total, [play.weight, method.join.weight, method.narrow.weight])


def test_pirls_chance_is_its_loss_where_all_images_are_alike() -> None:
    method = bare("pirl", images=6, out=5)
    method.projector = nn.Linear(6, 5)
    method.bank.values.copy_(torch.eye(5)[:1].expand(6, 5))
    made = method.step(batch_of([torch.rand(2, 3, 64, 64)] * 2), Pixels(method))
    assert float(made.loss.detach()) == pytest.approx(float(made.health["chance_loss"]), rel=1e-5)


@pytest.mark.parametrize("name", ["jigsaw", "pirl"])
def test_the_loss_falls_below_chance(name: str) -> None:
    options = {"orders": 4, "hidden": 64} if name == "jigsaw" else {}
    how = settings(steps=50, unlabeled_batch=12, lr=4e-3)
    outcome = make_loop(name, how, count=12, options=options).run()
    assert outcome.figures["loss"] < 0.9 * outcome.figures["chance_loss"]


@pytest.mark.parametrize("orders", [1, 362_881])
def test_orders_that_there_are_not_are_refused(orders: int) -> None:
    with pytest.raises(ConfigError, match="2 to 362,880"):
        pretrain_method("jigsaw", orders=orders)
