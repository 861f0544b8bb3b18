"""Learning rates over time, what is decayed, and who learns faster."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fallow.engine import LoopSettings, lr_scale, make_optimizer, parameter_groups, set_lr
from tests.engine.digits import changed, no_norm, small


def test_the_rate_rises_in_a_line_and_falls_on_half_a_cosine_to_its_floor() -> None:
    settings = LoopSettings(steps=100, warmup=0.1, floor=0.2)
    scale = [lr_scale(step, settings) for step in range(100)]
    assert scale[:10] == pytest.approx([(n + 1) / 11 for n in range(10)])
    assert scale[10] == 1.0
    assert scale[55] == pytest.approx(0.6)  # half of the way down
    assert scale[10:] == pytest.approx(
        [0.2 + 0.4 * (1 + math.cos(math.pi * n / 90)) for n in range(90)], abs=1e-12
    )
    assert 0.2 < scale[-1] < 0.201


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 0.5), (2, 0.5), (7, 0.05)])
def test_no_step_of_a_short_run_is_wasted_on_a_rate_of_zero(steps: int, warmup: float) -> None:
    settings = LoopSettings(steps=steps, warmup=warmup)
    assert all(0 < lr_scale(step, settings) <= 1 for step in range(steps))


def groups_of(settings: LoopSettings) -> tuple[torch.nn.Module, list[dict[str, Any]]]:
    network = small()
    return network, parameter_groups(network, settings)  # type: ignore[return-value, list-item]


def test_biases_and_norms_are_not_decayed_and_every_weight_is_in_one_group() -> None:
    network, groups = groups_of(changed(weight_decay=0.3, lr=1e-3))
    found: dict[int, tuple[float, float]] = {}
    for group in groups:
        for parameter in group["params"]:
            assert id(parameter) not in found
            found[id(parameter)] = (group["weight_decay"], group["peak"])
    named = dict(network.named_parameters())
    assert found.keys() == {id(p) for p in named.values()}
    for name, parameter in named.items():
        assert found[id(parameter)] == (0.3 if parameter.ndim > 1 else 0.0, 1e-3), name


def test_a_steady_part_keeps_its_own_rate_from_the_first_step_to_the_last() -> None:
    network, settings = small(), changed(steps=10, warmup=0.2, lr=1e-3)
    optimizer = make_optimizer(parameter_groups(network, settings, (network.head, 3.0)), settings)  # type: ignore[arg-type]
    steady = {id(p) for p in network.head.parameters()}  # type: ignore[operator, union-attr]
    for step in range(10):
        set_lr(optimizer, step, settings)
        for group in optimizer.param_groups:
            rate = 3e-3 if id(group["params"][0]) in steady else 1e-3 * lr_scale(step, settings)
            assert group["lr"] == pytest.approx(rate)
            assert len({id(p) in steady for p in group["params"]}) == 1
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))


def test_frozen_weights_are_left_out() -> None:
    network = no_norm()
    network.body.requires_grad_(False)
    groups = parameter_groups(network, changed())
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in network.head.parameters()}  # type: ignore[attr-defined]


def test_every_group_follows_the_schedule_from_its_peak() -> None:
    settings = changed(steps=10, warmup=0.2, lr=1e-3)
    optimizer = make_optimizer(groups_of(settings)[1], settings)
    for step in (0, 2, 9):
        set_lr(optimizer, step, settings)
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(group["peak"] * lr_scale(step, settings))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lars"])
def test_without_a_gradient_decay_alone_moves_a_weight_and_no_bias(name: str) -> None:
    settings = changed(optimizer=name, lr=0.1, weight_decay=0.5)
    network = no_norm()
    optimizer = make_optimizer(parameter_groups(network, settings), settings)
    weight, bias = network.head.weight.detach().clone(), network.head.bias.detach().clone()
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    set_lr(optimizer, 3, settings)
    optimizer.step()
    assert network.head.weight.norm() < weight.norm()
    assert torch.equal(network.head.bias, bias)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lars"])
def test_only_the_loop_clips_gradients(name: str) -> None:
    """A gradient ten times as long gives SGD a step ten times as long, and the others the same step, to rounding."""
    moved = []
    for length in (10.0, 100.0):
        settings = changed(optimizer=name, lr=1e-3, weight_decay=0.0)
        network = no_norm()
        optimizer = make_optimizer(parameter_groups(network, settings), settings)
        before = network.head.weight.detach().clone()
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, length)
        optimizer.step()
        moved.append(float((network.head.weight.detach() - before).norm()))
    assert moved[1] / moved[0] == pytest.approx(10 if name == "sgd" else 1, rel=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"batch_size": 0}, {"accumulate": 0}, {"lr": 0.0}, {"warmup": 1.0}, {"ema_decay": 1.0}],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="should be"):
        LoopSettings(**{"steps": 5, **wrong})
    assert LoopSettings.from_json(LoopSettings(steps=5).to_json()) == LoopSettings(steps=5)


def test_lars_adapts_the_rate_of_weights_to_their_length_and_leaves_biases_and_norms_alone() -> None:
    """Without decay too, one step moves a weight by lr * 0.001 * |w| (arXiv 1708.03888, eq. 6), and a bias by lr times its gradient."""
    settings = changed(optimizer="lars", lr=0.5, weight_decay=0.0, warmup=0.0)
    network = no_norm()
    optimizer = make_optimizer(parameter_groups(network, settings), settings)
    weight, bias = network.head.weight.detach().clone(), network.head.bias.detach().clone()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    optimizer.step()
    moved = network.head.weight.detach() - weight
    assert float(moved.norm()) == pytest.approx(0.5 * 0.001 * float(weight.norm()), rel=1e-4)
    assert torch.allclose(network.head.bias.detach() - bias, torch.full_like(bias, -3.5))
