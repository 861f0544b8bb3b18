"""Two processes that share a batch learn what one learns from the whole of it: statistics and gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fallow.methods import Batch, joint_method
from fallow.methods.joint import Balanced
from fallow.tasks import FeatureInfo
from tests.methods.joint.play import (
    CLASSES,
    LABELED,
    POOL,
    STEPS,
    TASK,
    UNLABELED,
    Loop,
    batches,
    network,
    play_on,
)
from tests.processes import Together, in_processes

METHODS = {
    "adamatch": {"momentum": 0.7},
    "softmatch": {"momentum": 0.7},
    "freematch": {"momentum": 0.7, "fairness_weight": 0.5},
    "flexmatch": {},
    "fixmatch": {"mix": torch.tensor([0.4, 0.3, 0.2, 0.1]), "momentum": 0.7, "threshold": 0.8},
    "uda": {},
}


class SharedLoop(Together, Loop):
    world_size = 2


def part_of(batch: Batch, rank: int) -> Batch:
    """Return a process's part: unequal numbers of labeled images, unequally trusted unlabeled ones."""
    known = slice(0, LABELED - 2) if rank == 0 else slice(LABELED - 2, LABELED)
    pool = slice(0, UNLABELED // 2) if rank == 0 else slice(UNLABELED // 2, UNLABELED)
    return replace(
        batch,
        index=batch.index[pool],
        labeled=tuple(x[known] for x in batch.labeled),
        unlabeled=tuple(x[pool] for x in batch.unlabeled),
        targets=batch.targets[known],
        weights=batch.weights[pool],
    )


def learn(rank: int, count: int) -> dict[str, Any]:
    """Train with each method; return losses, gradients of every step and the method's state at the end."""
    learned = {}
    for name, options in METHODS.items():
        method, loop = joint_method(name, TASK, **options), (Loop if count == 1 else SharedLoop)(network())
        method.build(FeatureInfo(12), POOL, CLASSES, STEPS)
        todo = [b if count == 1 else part_of(b, rank) for b in batches(weights=True)]
        steps: list[tuple[Tensor, list[Tensor]]] = []
        for _, _, made in play_on(method, loop, todo):
            loss = made.loss.detach().clone()
            loop.synchronize(loss)
            steps.append((loss, [w.grad.clone() for w in loop.student.parameters()]))
        learned[name] = {"steps": steps, "state": method.state_dict()}
    second_head = joint_method("fixmatch+abc", TASK)
    assert isinstance(second_head, Balanced)
    rates = [second_head.count(TASK.labels(b.targets), loop) for b in todo]
    learned["+abc"] = {"steps": rates, "state": {"counts": second_head.counts}}
    return learned


@pytest.fixture(scope="module")
def learned() -> list[dict[str, Any]]:
    """What one process learns, and each of two."""
    return [learn(0, 1), *in_processes(2, learn)]


@pytest.mark.parametrize("name", [*METHODS, "+abc"])
def test_two_processes_are_one(name: str, learned: list[dict[str, Any]]) -> None:
    alone, *both = (one[name] for one in learned)
    for shared in both:
        torch.testing.assert_close(shared["steps"], alone["steps"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(shared["state"], alone["state"], rtol=1e-4, atol=1e-6)
