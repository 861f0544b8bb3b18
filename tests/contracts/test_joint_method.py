"""Every joint method x every kind of task. A new method is added to METHODS and nothing else."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from fallow.methods import Batch, JointMethod, MethodInfo, Step, StepContext, global_mean
from fallow.tasks import FeatureInfo, Task, View
from tests.contracts.toys import TOYS


class FixedThreshold(JointMethod):
    """The smallest joint method (FixMatch, arXiv 2001.07685, eq. 4): hard targets above a fixed confidence."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "fixed",
        "fixed threshold",
        "joint",
        "Sohn et al. 2020, arXiv 2001.07685",
        ("labels", "unlabeled"),
        "tests",
        2.0,
    )
    threshold = 0.4

    def step(self, batch: Batch, ctx: StepContext) -> Step:
        weak, strong = batch.unlabeled_views
        outputs, noised = ctx.model(batch.labeled[0], batch.unlabeled[1])
        supervised = self.task.losses(outputs, batch.targets)
        (said,) = ctx.teacher(batch.unlabeled[0])
        teacher = self.task.posteriors(said, weak).warp(weak, strong)
        weight = (teacher.score >= self.threshold).float() * teacher.weight
        apart = self.task.divergence(noised, teacher.hard(), "ce")
        loss = global_mean(supervised, torch.ones_like(supervised), ctx) + global_mean(apart, weight, ctx)
        return Step(loss, health={"utilization": weight.mean()})


METHODS = (FixedThreshold,)


class OneProcess:
    """The loop's side of the contract, for one process; the student is its own teacher."""

    step, total_steps, world_size = 0, 10, 1

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        self.backbone, self.head = backbone, head

    def features(self, *images: Tensor) -> tuple[Any, ...]:
        return self.backbone(torch.cat(images)).split([len(x) for x in images])

    def model(self, *images: Tensor) -> tuple[Any, ...]:
        return tuple(self.head(found) for found in self.features(*images))

    def teacher(self, *images: Tensor) -> tuple[Any, ...]:
        with torch.no_grad():
            return self.model(*images)

    def reduce(self, value: Tensor) -> Tensor:
        return value

    def gather(self, value: Tensor) -> Tensor:
        return value


def batch_for(task: Task, n: int = 4) -> Batch:
    images = torch.randn(n, 1, 4, 4)
    flip = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).repeat(n, 1, 1)
    return Batch(
        index=torch.arange(n),
        labeled=(images,),
        unlabeled=(images, images.flip(-1)),
        targets=task.targets(n),  # type: ignore[attr-defined]
        labeled_views=(View(),),
        unlabeled_views=(View(), View(flip, strong=True)),
    )


@pytest.mark.parametrize("toy", TOYS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("kind", METHODS, ids=lambda m: m.info.name)
def test_a_joint_method_runs_on_every_kind_of_task(kind: type[JointMethod], toy: type[Task]) -> None:
    torch.manual_seed(0)
    task = toy(("a", "b", "c"))
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU())
    network = nn.ModuleList([backbone, task.head(FeatureInfo(8))])
    method = kind(task)
    method.build(FeatureInfo(8), n_images=4, n_classes=3, total_steps=10)
    ctx = OneProcess(*network)
    optimizer = torch.optim.SGD([*network.parameters(), *method.parameters()], 0.1)
    batch, losses = batch_for(task), []
    for _ in range(5):
        step = method.step(batch, ctx)
        assert step.loss.shape == ()
        assert torch.isfinite(step.loss)
        optimizer.zero_grad()
        step.loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
        optimizer.step()
        method.after_step(ctx)
        losses.append(step.loss.item())
        assert 0 <= float(step.health["utilization"]) <= 1
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", METHODS, ids=lambda m: m.info.name)
def test_a_method_describes_itself(kind: type[JointMethod]) -> None:
    assert kind.info.name
    assert kind.info.paper
    assert kind.info.suits
