"""Two processes over gloo, through Fabric, take the steps that one takes with the whole batch."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fallow.engine import Loop, LoopSettings, make_fabric
from fallow.engine.loop import share_statistics
from tests.engine.digits import SAME, make_loop, no_norm, weights
from tests.processes import in_processes

RUN = LoopSettings(
    steps=3, batch_size=8, unlabeled_batch=8, optimizer="sgd", lr=0.1, warmup=0.0, ema_decay=0.8, seed=1
)
METHODS: dict[str, dict[str, Any]] = {
    "finetune": {},
    "softmatch": {"momentum": 0.7, "follows": "ema"},
    "flexmatch": {"threshold": 0.3},
}


def learn(rank: int, count: int) -> dict[str, Any]:
    """Train with each method; return gradients of each step, weights and the method's state."""
    if count > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "test"}
    found: dict[str, Any] = {}
    for name, options in METHODS.items():
        loop = make_loop(
            name,
            RUN,
            network=no_norm(),
            changes=SAME,
            options=options,
            fabric=make_fabric(RUN, "cpu"),
        )
        assert loop.fabric.world_size == count
        gradients, clip = [], loop.fabric.clip_gradients

        def keep(
            *given: Any, loop: Loop = loop, gradients: Any = gradients, clip: Any = clip, **how: Any
        ) -> Any:
            gradients.append([p.grad.clone() for p in loop.trainee.parameters()])
            return clip(*given, **how)

        loop.fabric.clip_gradients = keep  # type: ignore[method-assign]
        outcome = loop.run()
        found[name] = (gradients, weights(outcome.network), weights(outcome.method), outcome.figures["loss"])
    found["asked"] = talk(loop, rank)
    found["ended"] = ended(rank, count)
    return found


def talk(loop: Loop, rank: int) -> dict[str, Tensor]:
    """Ask for sums and for everybody's values."""
    value = torch.tensor([[1.0, 2.0]]) * (rank + 1)
    value.requires_grad_()
    total, everyone = loop.ctx.reduce(value), loop.ctx.gather(value)
    (everyone * torch.arange(everyone.numel()).view_as(everyone)).sum().backward()
    assert value.grad is not None
    return {"total": total, "everyone": everyone.detach(), "gradient": value.grad}


def ended(rank: int, count: int) -> int:
    """Let the processes' clocks disagree about when to end."""
    loop = make_loop("finetune", RUN, network=no_norm(), changes=SAME, fabric=make_fabric(RUN, "cpu"))
    return loop.run(lambda step, seconds: step >= 1 + rank).steps


@pytest.fixture(scope="module")
def learned() -> list[dict[str, Any]]:
    return [learn(0, 1), *in_processes(2, learn)]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_take_the_steps_of_one(name: str, learned: list[dict[str, Any]]) -> None:
    one, *two = [found[name] for found in learned]
    for other in two:
        for expected, gradients in zip(one[0], other[0], strict=True):
            assert sum(float(g.abs().sum()) for g in expected) > 0.1
            for left, right in zip(expected, gradients, strict=True):
                assert torch.allclose(left, right, atol=1e-5)
        for part in (1, 2):
            for key, tensor in one[part].items():
                assert torch.allclose(tensor.float(), other[part][key].float(), atol=1e-5), key
        assert other[3] == pytest.approx(one[3], abs=1e-5)


def test_sums_and_gathered_values_are_those_of_all_with_gradient(learned: list[dict[str, Any]]) -> None:
    alone, first, second = (found["asked"] for found in learned)
    assert alone["total"].tolist() == alone["everyone"].tolist() == [[1, 2]]
    assert alone["gradient"].tolist() == [[0, 1]]
    for asked in (first, second):
        assert asked["total"].tolist() == [[3, 6]]
        assert not asked["total"].requires_grad
        assert asked["everyone"].tolist() == [[1, 2], [2, 4]]
    # Each process's loss weighs each value by its place: the gradients of both come back to who gave the value.
    assert first["gradient"].tolist() == [[0, 2]]
    assert second["gradient"].tolist() == [[4, 6]]


def test_all_processes_end_where_the_first_one_says(learned: list[dict[str, Any]]) -> None:
    assert [found["ended"] for found in learned] == [1, 1, 1]


def test_shared_statistics_leave_weights_names_and_answers_as_they_are() -> None:
    loop = make_loop("softmatch+abc")
    loop._step(0)
    before, images = weights(loop.trainee), loop.feed.batch(1).labeled[0]
    expected = loop.trainee.network.eval()(images)
    share_statistics(loop.trainee)
    norms = [m for m in loop.trainee.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    after = weights(loop.trainee)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.allclose(loop.trainee.network.eval()(images), expected, atol=1e-6)
