"""Clusters that are made anew while the network learns, beside DeepCluster-v2 written out in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fallow.methods import pretrain_method
from fallow.methods.pretrain.memory import Memory
from fallow.tasks import FeatureInfo
from tests.methods.pretrain.digits import make_loop, settings
from tests.methods.pretrain.play import Play, assert_equal_with_gradient, bare, batch_of, vectors

IMAGES = 12


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def clusters(memory: list[Tensor], seed: int) -> tuple[list[Tensor], list[int]]:
    """Return four centers and the center of each image after two rounds of spherical k-means."""
    first = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(seed))[:4]
    centers = [memory[int(i)] for i in first]
    for _ in range(2):
        own = [max(range(4), key=lambda c: float(x @ centers[c])) for x in memory]
        for c in range(4):
            mine = [x for x, which in zip(memory, own, strict=True) if which == c]
            centers[c] = unit(torch.stack(mine).sum(0)) if mine else centers[c]
    return centers, [max(range(4), key=lambda c: float(x @ centers[c])) for x in memory]


def test_deepcluster_names_the_clusters_of_its_memory_and_makes_them_anew() -> None:
    known = torch.randn(IMAGES, 6, generator=torch.Generator().manual_seed(8))
    options = {"heads": 3, "prototypes": 4, "rounds": 2, "local_crops": 1, "out": 6}
    method = bare("deepcluster", images=IMAGES, batch=4, known=known, **options)
    assert method.every == 25
    memories = [[unit(x) for x in known] for _ in range(2)]
    made = [clusters(memories[head % 2], head) for head in range(3)]
    seen = {0: [0, 4, 5, 11], 1: [1, 2, 3, 6], 2: [7, 8, 9, 10], 25: [0, 1, 5, 10], 26: [2, 3, 4, 6]}
    for step, index in seen.items():
        if step == 25:
            made = [clusters(memories[head % 2], 25 * 3 + head) for head in range(3)]
        views = vectors(3, n=4, seed=step)

        def reference(v: list[Tensor], made: list = made, index: list[int] = index) -> Tensor:
            total = v[0].new_zeros(())
            for centers, own in made:
                for crop in v:
                    for x, image in zip(crop, index, strict=True):
                        weighs = [torch.exp(unit(x) @ c / 0.1) for c in centers]
                        total = total - torch.log(weighs[own[image]] / sum(weighs)) / (3 * 3 * 4)
            return total

        assert_equal_with_gradient(method, reference, views, index=index, play=Play(method, step=step))
        for crop in range(2):
            for x, image in zip(views[crop].detach(), index, strict=True):
                memories[crop][image] = unit(x)
        for memory, kept in zip(method.memories, memories, strict=True):
            torch.testing.assert_close(memory.values, torch.stack(kept))


def test_a_step_of_several_parts_clusters_once() -> None:
    known = torch.randn(IMAGES, 6, generator=torch.Generator().manual_seed(8))
    method = bare("deepcluster", images=IMAGES, batch=4, known=known, prototypes=4, local_crops=0, out=6)
    views = vectors(2, n=4)
    play = Play(method)
    method.step(batch_of(views, [0, 1, 2, 3]), play)
    before = method.centers.clone()
    method.step(batch_of(views, [4, 5, 6, 7]), play)
    assert torch.equal(method.centers, before)
    play.step = method.every
    method.step(batch_of(views, [0, 1, 2, 3]), play)
    assert not torch.equal(method.centers, before)


@pytest.mark.parametrize(("steps", "batch", "every"), [(6, 8, 1), (400, 8, 75), (400, 60, 50), (80, 8, 20)])
def test_clusters_stand_for_a_pass_or_fifty_steps_and_are_made_four_times_in_a_short_run(
    steps: int, batch: int, every: int
) -> None:
    method = pretrain_method("deepcluster")
    method.build(FeatureInfo(4), 600, 0, steps, batch, known=torch.randn(600, 4))
    assert method.every == every


def test_deepcluster_learns_to_name_its_clusters() -> None:
    method = pretrain_method("deepcluster", prototypes=6)
    loop = make_loop(method, settings(steps=80, unlabeled_batch=20, lr=4e-3), count=60)
    method.every = 80
    outcome = loop.run()
    assert outcome.figures["chance_loss"] == pytest.approx(math.log(6))
    assert outcome.figures["loss"] < 0.9 * math.log(6)


def test_an_image_that_is_twice_in_a_batch_is_remembered_as_the_mean_of_both() -> None:
    memory = Memory(5, 3)
    seen = torch.nn.functional.normalize(torch.rand(3, 3), dim=1)
    memory.remember(seen, torch.tensor([2, 4, 2]))
    torch.testing.assert_close(memory.values[2], unit(seen[0] + seen[2]))
    torch.testing.assert_close(memory.values[4], seen[1])
