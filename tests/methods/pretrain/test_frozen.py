"""Methods that learn from what a frozen network says of each image, beside references written from their papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from fallow.errors import ConfigError
from fallow.methods import pretrain_method
from fallow.methods.pretrain.clusters import centered_units, sphere_kmeans
from fallow.tasks import FeatureInfo
from tests.methods.pretrain.digits import make_loop, settings
from tests.methods.pretrain.play import Play, assert_equal_with_gradient, bare, batch_of, vectors


def blobs(count: int, each: int, dim: int = 8, seed: int = 1) -> Tensor:
    """Return vectors around so many directions, one after the other."""
    made = torch.Generator().manual_seed(seed)
    middles = torch.nn.functional.normalize(torch.randn(count, dim, generator=made), dim=1)
    noise = 0.05 * torch.randn(count * each, dim, generator=made)
    return torch.nn.functional.normalize(middles.repeat_interleave(each, 0) + noise, dim=1)


def test_spherical_k_means_ends_at_middles_of_what_is_nearest() -> None:
    units = torch.nn.functional.normalize(
        torch.randn(300, 5, generator=torch.Generator().manual_seed(3)), dim=1
    )
    centers, labels = sphere_kmeans(units, 7, torch.Generator().manual_seed(0), rounds=200)
    for number in range(300):
        assert int(labels[number]) == max(range(7), key=lambda c: float(units[number] @ centers[c]))
    for number in range(7):
        middle = units[labels == number].mean(0)
        torch.testing.assert_close(centers[number], middle / middle.norm(), rtol=1e-4, atol=1e-5)


def test_spherical_k_means_finds_what_scikit_learn_finds_and_the_same_each_time() -> None:
    units = blobs(4, 25)
    expected = KMeans(4, n_init=10, random_state=0).fit(units.numpy()).labels_
    best = max(
        adjusted_rand_score(expected, sphere_kmeans(units, 4, torch.Generator().manual_seed(s))[1].numpy())
        for s in range(8)
    )
    assert best == 1.0
    one, two = (sphere_kmeans(units, 4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_a_center_that_nothing_is_near_to_stays_where_it_began() -> None:
    units = torch.eye(3)[[0, 0, 0, 1]]
    centers, labels = sphere_kmeans(units, 3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(centers.norm(dim=1), torch.ones(3))
    assert len(set(labels.tolist())) == 2


def test_clusterfit_is_the_cross_entropy_of_the_clusters_of_what_is_known() -> None:
    known = blobs(6, 4, dim=9) * 3 + 1
    method = bare("clusterfit", images=24, known=known, clusters=6, rounds=3)
    start = centered_units(known)[torch.randperm(24, generator=torch.Generator().manual_seed(0))[:6]]
    unit = (known - known.mean(0)) / (known - known.mean(0)).norm(dim=1, keepdim=True)
    for _ in range(3):
        nearest = [int((start @ z).argmax()) for z in unit]
        for c in range(6):
            mine = [z for z, n in zip(unit, nearest, strict=True) if n == c]
            if mine:
                start[c] = torch.stack(mine).sum(0) / torch.stack(mine).sum(0).norm()
    named = [int((start @ z).argmax()) for z in unit]
    index = [3, 9, 14, 20, 23]

    def reference(views: list[Tensor]) -> Tensor:
        return -sum(torch.log_softmax(views[0][i], 0)[named[j]] for i, j in enumerate(index)) / 5

    assert_equal_with_gradient(method, reference, vectors(1), index=index)
    shares = np.bincount(named, minlength=6) / 24
    entropy = -sum(p * math.log(p) for p in shares if p)
    chance = float(method.step(batch_of(vectors(1), index), Play(method)).health["chance_loss"])
    assert chance == pytest.approx(entropy, rel=1e-5)


@pytest.mark.parametrize("share", [0.9, 0.0])
def test_distill_is_the_cosine_and_the_smooth_l1_distance_from_centered_and_scaled_targets(
    share: float,
) -> None:
    known = (
        torch.randn(30, 6, generator=torch.Generator().manual_seed(2)) * torch.tensor([3, 1, 1, 1, 0.5, 0])
        + 4
    )
    method = bare("distill", images=30, known=known, share=share)
    middle = known.sum(0) / 30
    scale = math.sqrt(sum(float((x - middle).square().sum()) for x in known) / known.numel())
    index = [0, 7, 7, 21, 29]

    def miss(answer: Tensor, target: Tensor) -> Tensor:
        cosine = (answer * target).sum() / (answer.norm() * target.norm())
        parts = [0.5 * d**2 if float(d.detach().abs()) < 1 else d.abs() - 0.5 for d in answer - target]
        return share * (1 - cosine) + (1 - share) * torch.stack(parts).mean()

    def reference(views: list[Tensor]) -> Tensor:
        misses = [miss(views[0][i], (known[j] - middle) / scale) for i, j in enumerate(index)]
        return torch.stack(misses).mean()

    assert_equal_with_gradient(method, reference, vectors(1), index=index)


def test_distills_chance_is_the_least_loss_of_one_answer_to_all_images() -> None:
    known = torch.randn(40, 6, generator=torch.Generator().manual_seed(2)) + torch.tensor(
        [4.0, 0, 0, 0, 0, 0]
    )
    method = bare("distill", images=40, known=known, share=1.0)
    play, everyone = Play(method), list(range(40))
    answer = torch.zeros(6, requires_grad=True)
    with torch.no_grad():
        answer.add_(0.1)
    optimizer = torch.optim.Adam([answer], 0.05)
    for _ in range(200):
        made = method.step(batch_of([answer.expand(40, 6)], everyone), play)
        optimizer.zero_grad()
        made.loss.backward()
        optimizer.step()
    assert float(made.loss.detach()) == pytest.approx(float(made.health["chance_loss"]), abs=1e-4)


@pytest.mark.parametrize("name", ["clusterfit", "distill"])
def test_the_loss_falls_well_below_chance(name: str) -> None:
    outcome = make_loop(name, settings(steps=60, unlabeled_batch=16), count=60).run()
    assert outcome.figures["loss"] < 0.9 * outcome.figures["chance_loss"]


@pytest.mark.parametrize("known", [None, torch.zeros(3, 5)])
def test_a_method_without_what_it_asks_for_says_so(known: Tensor | None) -> None:
    with pytest.raises(ConfigError, match="a vector of each of the 9"):
        pretrain_method("distill").build(FeatureInfo(8), 9, 0, 10, 8, known=known)
