"""Every joint method x every kind of task. A method of `JOINT` is tried without being named here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fallow.config.names import METHODS as NAMES_IN_CONFIG
from fallow.methods import JOINT, Batch, JointMethod, joint_method, registry
from fallow.tasks import FeatureInfo, Task, View
from tests.contracts.toys import TOYS

METHODS = [*JOINT, *(f"{name}+abc" for name in JOINT)]


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


def try_on(toy: type[Task], make: Callable[[Task], JointMethod]) -> None:
    """Train a small network for some steps; a new method's own test may call this too."""
    torch.manual_seed(0)
    task = toy(("a", "b", "c"))
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU())
    network = nn.ModuleList([backbone, task.head(FeatureInfo(8))])
    method = make(task)
    method.build(FeatureInfo(8), n_images=4, n_classes=3, total_steps=10)
    ctx = OneProcess(*network)
    predicting = method.prediction_head() or network[1]
    optimizer = torch.optim.SGD([*network.parameters(), *method.parameters()], 0.1)
    batch, losses = batch_for(task), []
    for ctx.step in range(10):
        step = method.step(batch, ctx)
        assert step.loss.shape == ()
        assert torch.isfinite(step.loss)
        optimizer.zero_grad()
        step.loss.backward()
        for weights in (*network.parameters(), *method.parameters()):
            assert weights.grad is not None
            assert torch.isfinite(weights.grad).all()
        optimizer.step()
        method.after_step(ctx)
        losses.append(task.losses(predicting(backbone(batch.labeled[0])), batch.targets).mean().item())
        assert {"supervised_loss", "unsupervised_loss", "threshold"} <= set(step.logs)
        assert 0 <= float(step.health["utilization"]) <= 1
        assert step.health["class_utilization"].shape == step.health["pseudo_classes"].shape == (3,)
        assert all(not torch.as_tensor(x).requires_grad for x in (*step.logs.values(), *step.health.values()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("toy", TOYS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_a_joint_method_runs_on_every_kind_of_task(name: str, toy: type[Task]) -> None:
    try_on(toy, lambda task: joint_method(name, task))


@pytest.mark.parametrize("toy", TOYS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_a_joint_method_can_be_told_the_class_shares(name: str, toy: type[Task]) -> None:
    try_on(toy, lambda task: joint_method(name, task, mix=torch.tensor([0.6, 0.3, 0.1])))


@pytest.mark.parametrize("toy", TOYS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_untrusted_images_teach_nothing(name: str, toy: type[Task]) -> None:
    torch.manual_seed(0)
    task = toy(("a", "b", "c"))
    network = nn.ModuleList([nn.Flatten(), task.head(FeatureInfo(16))])
    method = joint_method(name, task)
    method.build(FeatureInfo(16), n_images=4, n_classes=3, total_steps=10)
    batch = replace(batch_for(task), weights=torch.zeros(4))
    ctx = OneProcess(*network)
    ctx.step = 9
    for _ in range(2):
        step = method.step(batch, ctx)
        assert float(step.health["utilization"]) == 0
        assert float(step.health["pseudo_classes"].sum()) == 0
        assert float(step.logs["unsupervised_loss"]) == 0


def test_every_method_describes_itself_and_can_be_asked_for_by_name() -> None:
    infos = {info.name: info for info in registry()}
    assert set(NAMES_IN_CONFIG) == set(JOINT)
    for name in (*JOINT, "+abc"):
        assert all((infos[name].title, infos[name].paper, infos[name].suits, infos[name].needs))
        assert infos[name].family == "joint"
        assert infos[name].cost > 1
