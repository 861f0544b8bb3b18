"""Posteriors against formulas written out here."""

from __future__ import annotations

import math

import pytest
import torch

from fallow.tasks import Posteriors, View


def categorical(rows: list[list[float]]) -> Posteriors:
    return Posteriors("categorical", torch.tensor(rows), torch.arange(len(rows)))


def turned(angle: float, images: int = 1) -> View:
    c, s = math.cos(angle), math.sin(angle)
    return View(torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).repeat(images, 1, 1))


def test_score_entropy_and_sharpening_follow_their_formulas() -> None:
    p = [0.7, 0.2, 0.1]
    found = categorical([p])
    assert found.score.item() == pytest.approx(0.7)
    assert found.entropy.item() == pytest.approx(-sum(x * math.log(x) for x in p))
    powered = [x**2 for x in p]
    assert found.sharpen(0.5).probs[0].tolist() == pytest.approx([x / sum(powered) for x in powered])
    assert torch.allclose(found.sharpen(1.0).probs, found.probs)


def test_multilabel_entries_are_decisions_of_their_own() -> None:
    found = Posteriors("bernoulli", torch.tensor([[0.9, 0.2]]), torch.tensor([0]))
    assert found.score[0].tolist() == pytest.approx([0.9, 0.8])
    assert found.entropy[0, 0].item() == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    odds = (0.9 / 0.1) ** 2
    assert found.sharpen(0.5).probs[0, 0].item() == pytest.approx(odds / (1 + odds))
    assert found.hard().probs.tolist() == [[1.0, 0.0]]
    assert found.weight.shape == (1, 2)


def test_alignment_moves_the_mean_to_the_proportions_wanted() -> None:
    torch.manual_seed(0)
    rows = torch.softmax(3 * torch.randn(400, 3) + torch.tensor([2.0, 0.0, 0.0]), 1)
    found = Posteriors("categorical", rows, torch.arange(400))
    to = torch.tensor([0.2, 0.3, 0.5])
    aligned = found.align(to)
    assert torch.allclose(aligned.probs.sum(1), torch.ones(400), atol=1e-5)
    assert (aligned.mean() - to).abs().sum() < (found.mean() - to).abs().sum()
    expected = rows * (to / rows.mean(0))
    assert torch.allclose(aligned.probs, expected / expected.sum(1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_dense_units_follow_a_quarter_turn_exactly(quarter: int) -> None:
    torch.manual_seed(quarter)
    dense = torch.softmax(torch.randn(2, 4, 4, 3), -1)
    found = Posteriors(
        "categorical", dense.reshape(-1, 3), torch.arange(2).repeat_interleave(16), grid=(4, 4)
    )
    moved = found.warp(View(), turned(quarter * math.pi / 2, images=2))
    # The affine maps view to image: what the turned view shows at p is the image at R p.
    expected = torch.rot90(dense, quarter, (1, 2))
    assert torch.allclose(moved.probs.reshape(2, 4, 4, 3), expected, atol=1e-4)
    assert bool(moved.valid.all())


def test_there_and_back_is_where_it_was_and_what_left_the_picture_is_invalid() -> None:
    dense = torch.softmax(torch.randn(1, 4, 4, 2), -1)
    found = Posteriors("categorical", dense.reshape(-1, 2), torch.zeros(16, dtype=torch.long), grid=(4, 4))
    shifted = View(torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]))  # half a picture to the right
    moved = found.warp(View(), shifted)
    assert moved.valid.reshape(4, 4).tolist() == [[True, True, False, False]] * 4
    back = moved.warp(shifted, View())
    kept = back.valid.reshape(4, 4)
    assert kept.tolist() == [[False, False, True, True]] * 4
    assert torch.allclose(back.probs.reshape(4, 4, 2)[kept], dense[0][kept], atol=1e-5)
    assert back.weight.sum() == 8


def test_boxes_follow_the_view_and_vanish_with_it() -> None:
    found = Posteriors(
        "located",
        torch.tensor([[0.9, 0.1], [0.4, 0.6]]),
        torch.tensor([0, 0]),
        boxes=torch.tensor([[-1.0, -1.0, 0.0, 0.0], [0.5, 0.5, 1.0, 1.0]]),
    )
    zoomed = View(
        torch.tensor([[[0.5, 0.0, -0.5], [0.0, 0.5, -0.5]]])
    )  # the upper left quarter, twice as large
    moved = found.warp(View(), zoomed)
    assert moved.boxes[0].tolist() == pytest.approx([-1.0, -1.0, 1.0, 1.0])
    assert moved.valid.tolist() == [True, False]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="image_index"):
        Posteriors("categorical", torch.ones(2, 3) / 3, torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="boxes"):
        Posteriors("located", torch.ones(2, 3) / 3, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="temperature"):
        categorical([[0.5, 0.5]]).sharpen(0)
