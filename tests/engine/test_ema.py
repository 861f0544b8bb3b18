"""The average of the weights, beside the definition."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from fallow.engine import Ema


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def wander(module: nn.Module, steps: int, ema: Ema) -> Iterator[dict[str, torch.Tensor]]:
    """Train on noise, average, and yield all states."""
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        ema.update()
        yield copy.deepcopy(module.state_dict())


def test_the_average_is_the_papers_with_a_decay_that_warms_up_and_batch_statistics_are_averaged_too() -> None:
    module = network()
    start = {k: v.double() for k, v in copy.deepcopy(module.state_dict()).items()}
    ema = Ema(module, 0.7)
    expected: dict[str, torch.Tensor] = start
    decays: list[float] = []
    for t, state in enumerate(wander(module, 40, ema), start=1):
        decays.append(min(0.7, (1 + t) / (10 + t)))
        expected = {k: decays[-1] * expected[k] + (1 - decays[-1]) * v.double() for k, v in state.items()}
    assert decays[0] < 0.2
    assert decays[-1] == 0.7
    averaged = ema.module.state_dict()
    for name, value in expected.items():
        if "num_batches" in name:
            assert averaged[name] == 40  # a count is copied
        else:
            assert torch.allclose(averaged[name].double(), value, atol=1e-6), name
    assert not torch.equal(averaged["1.running_mean"], module.state_dict()["1.running_mean"])


def test_the_average_is_in_evaluation_mode_and_wants_no_gradient() -> None:
    ema = Ema(network().train(), 0.9)
    assert not any(part.training for part in ema.module.modules())
    assert not any(p.requires_grad for p in ema.module.parameters())


def test_what_is_not_trained_or_kept_apart_is_shared_and_stays_as_it_is() -> None:
    module = network()
    module[0].requires_grad_(False)
    module.register_buffer("memory", torch.zeros(5))
    ema = Ema(module, 0.9, apart=[module.memory])
    assert ema.module[0].weight is module[0].weight  # type: ignore[index]
    assert ema.module[3].weight is not module[3].weight  # type: ignore[index]
    module.memory[2] = 7
    ema.update()
    assert ema.module.memory[2] == 7
    assert "memory" not in ema.tensors
    assert "0.weight" not in ema.tensors
