from __future__ import annotations

import numpy as np
import pytest
import torch

from fallow.augment import cutmix, mixup, one_hot


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int = 12, height: int = 10, width: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images whose every pixel tells which image it is from, and targets."""
    x = torch.arange(n).float()[:, None, None, None].expand(n, 3, height, width).contiguous() / n
    soft = torch.softmax(torch.randn(n, 4, generator=generator(9)), 1)
    return x, soft


@pytest.mark.parametrize("per_image", [False, True])
def test_mixup_is_the_paper_image_by_image(per_image: bool) -> None:
    x = torch.rand(12, 3, 10, 14, generator=generator(3))
    y = one_hot(torch.arange(12) % 4, 4)
    mixed, targets = mixup(x, y, 0.4, generator(5), per_image=per_image)
    same = generator(5)
    partner = torch.randperm(12, generator=same)
    seed = int(torch.randint(2**62, (1,), generator=same))
    weights = np.broadcast_to(np.random.default_rng(seed).beta(0.4, 0.4, 12 if per_image else 1), 12)
    for i, (j, w) in enumerate(zip(partner.tolist(), weights.tolist(), strict=True)):
        torch.testing.assert_close(mixed[i], w * x[i] + (1 - w) * x[j])
        torch.testing.assert_close(targets[i], w * y[i] + (1 - w) * y[j])


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_cutmix_targets_are_the_areas_that_are_seen(per_image: bool, seed: int) -> None:
    n, (x, y) = 12, batch()
    mixed, targets = cutmix(x, y, 1.0, generator(seed), per_image=per_image)
    boxes = set()
    for i in range(n):
        sources, counts = (n * mixed[i, 0]).round().int().unique(return_counts=True)
        expected = sum(int(c) / (10 * 14) * y[int(j)] for j, c in zip(sources, counts, strict=True))
        torch.testing.assert_close(targets[i], expected, atol=1e-5, rtol=0)
        assert len(sources) <= 2
        if len(sources) == 2:  # what came from the partner is one full box
            rows, columns = torch.nonzero(mixed[i, 0] != x[i, 0], as_tuple=True)
            box = (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max()))
            assert len(rows) == (box[1] - box[0] + 1) * (box[3] - box[2] + 1)
            boxes.add(box)
    assert len(boxes) <= 1 or per_image


def test_weights_follow_the_beta_distribution() -> None:
    x, y = torch.zeros(4000, 1, 1, 1), one_hot(torch.arange(4000), 4000)
    own = mixup(x, y, 0.3, generator(), per_image=True)[1].diagonal()
    assert float(own.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(own.var()) == pytest.approx(0.25 / (2 * 0.3 + 1), abs=0.01)


def test_boxes_are_as_large_as_drawn_on_average() -> None:
    x, y = batch(2000, 32, 32)
    mixed, _ = cutmix(x, y, 1.0, generator(), per_image=True)
    pasted = float((mixed != x)[:, 0].float().mean())
    # Uniform areas, of which a border cuts off a part: the expected area is that of clipped squares.
    side = np.sqrt(np.random.default_rng(0).uniform(size=(200_000, 1)))
    center = np.random.default_rng(1).uniform(size=(200_000, 2))
    clipped = np.minimum(center + side / 2, 1) - np.maximum(center - side / 2, 0)
    assert pasted == pytest.approx(float(clipped.prod(1).mean()), abs=0.03)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixing_repeats_and_leaves_its_input_alone(mix) -> None:
    x, y = batch()
    before = x.clone(), y.clone()
    for per_image in (False, True):
        first = mix(x, y, 1.0, generator(1), per_image=per_image)
        second = mix(x, y, 1.0, generator(1), per_image=per_image)
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
        torch.testing.assert_close(first[1].sum(1), torch.ones(12))
        assert not torch.equal(first[0], mix(x, y, 1.0, generator(2), per_image=per_image)[0])
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_nothing_to_mix(mix) -> None:
    x, y = batch()
    assert mix(x, y, 0.0, generator())[0] is x
    assert mix(x[:1], y[:1], 1.0, generator())[1] is not None
    assert len(mix(x[:0], y[:0], 1.0, generator())[0]) == 0
    with pytest.raises(ValueError, match="one_hot"):
        mix(x, torch.zeros(12, dtype=torch.long), 1.0, generator())
    with pytest.raises(ValueError, match="alpha"):
        mix(x, y, -1.0, generator())


def test_one_hot_with_smoothing() -> None:
    assert one_hot(torch.tensor([1, 0]), 2).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    torch.testing.assert_close(
        one_hot(torch.tensor([1]), 4, 0.1), torch.tensor([[0.025, 0.925, 0.025, 0.025]])
    )
