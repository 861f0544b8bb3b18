"""A small classification problem that joint methods are played through, step by step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fallow.methods import Batch, JointMethod
from fallow.tasks import Classification, View

CLASSES, POOL, STEPS, LABELED, UNLABELED, PIXELS = 4, 24, 12, 6, 10, 8
TASK = Classification(tuple("abcd"))


class Loop:
    """The loop's side of the contract in one process, with a teacher of its own."""

    world_size = 1

    def __init__(self, student: nn.Module, total_steps: int = STEPS) -> None:
        self.student, self.teaching = student, copy.deepcopy(student)
        with torch.no_grad():
            for weight in self.teaching.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
        self.step, self.total_steps = 0, total_steps
        self.passes = 0

    def features(self, *images: Tensor) -> tuple[Any, ...]:
        self.passes += 1
        return self.student[0](torch.cat(images)).split([len(x) for x in images])

    def head(self, features: Tensor) -> Tensor:
        return self.student[1](features)

    def model(self, *images: Tensor) -> tuple[Any, ...]:
        return tuple(self.head(found) for found in self.features(*images))

    @torch.no_grad()
    def teacher(self, *images: Tensor) -> tuple[Any, ...]:
        return self.teaching(torch.cat(images)).split([len(x) for x in images])

    def follow(self) -> None:
        """Move the teacher towards the student."""
        with torch.no_grad():
            for own, other in zip(self.teaching.parameters(), self.student.parameters(), strict=True):
                own.lerp_(other, 0.2)

    def synchronize(self, gradient: Tensor) -> None:
        """Average a gradient over processes; there is one."""

    def reduce(self, value: Tensor) -> Tensor:
        return value.detach()

    def gather(self, value: Tensor) -> Tensor:
        return value


def network(seed: int = 0) -> nn.Sequential:
    """A student that is sure of some images and not of others."""
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Linear(PIXELS, 12), nn.Linear(12, CLASSES))
    with torch.no_grad():
        student[1].weight.mul_(8)
    return student


def batches(seed: int = 0, steps: int = STEPS, weights: bool = False) -> Iterator[Batch]:
    """Batches of noisy views of one pool, so that images come again."""
    made = torch.Generator().manual_seed(seed)
    pool = 1.2 * torch.randn(POOL, PIXELS, generator=made)
    labels = torch.randint(0, CLASSES, (POOL,), generator=made)
    for _ in range(steps):
        known = torch.randperm(POOL, generator=made)[:LABELED]
        index = torch.randperm(POOL, generator=made)[:UNLABELED]
        noise = torch.randn(2, UNLABELED, PIXELS, generator=made)
        trust = torch.rand(UNLABELED, generator=made)
        yield Batch(
            index=index,
            labeled=(pool[known],),
            unlabeled=(pool[index] + 0.05 * noise[0], pool[index] + 0.5 * noise[1]),
            targets=labels[known],
            labeled_views=(View(),),
            unlabeled_views=(View(), View(strong=True)),
            weights=trust if weights else None,
        )


def play_on(
    method: JointMethod, loop: Loop, todo: list[Batch], first: int = 0
) -> Iterator[tuple[Loop, Batch, Any]]:
    """Train with a method and yield loop, batch and step after each backward pass; ``first`` is the first's number."""
    for loop.step, batch in enumerate(todo, first):
        weights = [*loop.student.parameters(), *method.parameters()]
        for weight in weights:
            weight.grad = None
        torch.manual_seed(loop.step)
        made = method.step(batch, loop)
        made.loss.backward()
        for weight in weights:
            loop.synchronize(weight.grad)
        yield loop, batch, made
        with torch.no_grad():
            for weight in weights:
                weight.sub_(0.05 * weight.grad)
        loop.follow()
        method.after_step(loop)
