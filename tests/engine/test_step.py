"""What one step does: parts, clipping, recomputed activations, the teacher, and what the method sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from fallow.engine import Loop, LoopSettings
from fallow.errors import ConfigError
from fallow.methods import Batch, Step, StepContext, Supervised
from fallow.models import create_backbone, from_backbone
from tests.engine.digits import (
    DIM,
    SAME,
    assert_same_weights,
    changed,
    make_loop,
    no_norm,
    small,
    task,
    weights,
)

PLAIN = changed(optimizer="sgd", lr=0.05, ema_decay=0.0, clip=0.0, batch_size=12, unlabeled_batch=12)


def gradients(loop: Loop, steps: int = 1) -> list[dict[str, Tensor]]:
    """Take steps and return the gradients of each."""
    found: list[dict[str, Tensor]] = []
    step = loop.optimizer.step

    def keep(*given: Any, **named: Any) -> Any:
        found.append({n: p.grad.clone() for n, p in loop.trainee.named_parameters() if p.grad is not None})
        return step(*given, **named)

    loop.optimizer.step = keep  # type: ignore[method-assign]
    for number in range(steps):
        loop._step(number)
    return found


def total(gradient: dict[str, Tensor]) -> float:
    return float(torch.stack([g.norm() for g in gradient.values()]).norm())


@pytest.mark.parametrize("name", ["finetune", "fixmatch"])
def test_a_batch_computed_in_parts_gives_the_gradient_of_the_whole(name: str) -> None:
    options = {"threshold": 0.0} if name == "fixmatch" else {}
    whole, parts = (
        gradients(
            make_loop(name, replace(PLAIN, accumulate=n), network=no_norm(), changes=SAME, options=options), 2
        )
        for n in (1, 3)
    )
    for one, other in zip(whole, parts, strict=True):
        assert total(one) > 0.01
        for key, gradient in one.items():
            assert torch.allclose(gradient, other[key], atol=1e-6), key


def test_gradients_longer_than_the_limit_are_shortened_to_it_and_others_left() -> None:
    def of(clip: float) -> dict[str, Tensor]:
        return gradients(make_loop("finetune", replace(PLAIN, clip=clip), network=no_norm(), changes=SAME))[0]

    free, wide, short = of(0.0), of(1000.0), of(0.01)
    assert_same_weights(free, wide)
    assert total(free) > 0.02
    assert total(short) == pytest.approx(0.01, rel=1e-3)
    for name, gradient in free.items():
        assert torch.allclose(short[name], gradient * (0.01 / total(free)), rtol=1e-3, atol=1e-7)


def timm_network() -> nn.Module:
    backbone = create_backbone("test_efficientnet", size=32)
    return from_backbone(backbone, nn.Linear(backbone.dim, 4), 32, drop_path=0.3)


@pytest.mark.parametrize("kind", ["small", "timm"])
def test_recomputed_activations_change_neither_weights_nor_statistics(kind: str) -> None:
    ran: list[nn.Module] = []

    def trained(asked: bool) -> tuple[Loop, int]:
        torch.manual_seed(0)
        network = small() if kind == "small" else timm_network()
        settings = changed(PLAIN, steps=2, gradient_checkpointing=asked, batch_size=6, unlabeled_batch=0)
        method = Supervised(task())
        loop = make_loop(method, settings, network=network, changes=SAME)
        ran.clear()
        with register_module_forward_hook(lambda part, *given: ran.append(part)):
            outcome = loop.run()
        count = sum(isinstance(part, nn.BatchNorm2d) for part in ran)
        assert not any(getattr(m, "grad_checkpointing", False) for m in outcome.network.modules())
        return loop, count

    (plain, fewer), (again, more) = trained(False), trained(True)
    assert_same_weights(weights(plain.trainee), weights(again.trainee))
    assert more > 1.3 * fewer


def test_a_network_that_cannot_recompute_says_so_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"cannot compute its activations twice.*gradient_checkpointing"):
        make_loop("finetune", changed(gradient_checkpointing=True), network=no_norm())


class Asks(Supervised):
    """A method that looks at what the loop offers."""

    def __init__(self) -> None:
        super().__init__(task())
        self.follows = "ema"
        self.seen: list[tuple[Any, ...]] = []

    def step(self, batch: Batch, ctx: StepContext) -> Step:
        made = super().step(batch, ctx)
        images = batch.labeled[0]
        (said,) = ctx.teacher(images)
        again = ctx.teacher(images[:2], images[2:])
        features = ctx.features(images[:2], images[2:])
        self.seen.append((ctx.step, ctx.total_steps, said, again, features))
        return made


@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_the_teacher_is_undisturbed_and_the_student_learns_on_as_it_was(decay: float) -> None:
    method = Asks()
    loop = make_loop(method, changed(ema_decay=decay, steps=4))
    modes = {name: part.training for name, part in loop.trainee.named_modules()}
    for step in range(4):
        loop._step(step)
        assert {name: part.training for name, part in loop.trainee.named_modules()} == modes
    assert [seen[0] for seen in method.seen] == [0, 1, 2, 3]
    step, of, said, again, features = method.seen[-1]
    assert of == 4
    assert not said.requires_grad
    assert torch.allclose(torch.cat(again), said, atol=1e-5)  # no dropout, no statistics of the batch
    assert features[0].requires_grad
    assert [len(f) for f in features] == [2, 4]
    loop.ctx.follows = "self"
    images = loop.feed.batch(0).labeled[0]
    expected = loop.trainee.network.eval()(images)
    loop.trainee.train()
    assert torch.equal(loop.ctx.teacher(images)[0], expected)


def test_a_frozen_backbone_stays_as_it_is_to_the_bit() -> None:
    backbone = create_backbone("small_resnet_8", size=8)
    network = from_backbone(backbone, nn.Linear(DIM, 4), 8, trainable="head")
    before = weights(network.module)
    outcome = make_loop("softmatch", network=network).run()
    assert_same_weights(weights(outcome.network.module), before)  # type: ignore[arg-type]
    assert outcome.network.head.weight.abs().sum() > 0  # type: ignore[operator, union-attr]


def test_what_a_step_draws_depends_on_its_number_alone() -> None:
    settings = LoopSettings(steps=6, batch_size=6, unlabeled_batch=8, ema_decay=0.0, lr=1e-9, warmup=0.0)
    one, two = make_loop(settings=settings), make_loop(settings=settings)
    two._step(0), two._step(1)
    gradient = [gradients_at(loop, 4) for loop in (one, two)]
    # Weights hardly move and statistics of the batch are used, so that only noise could make a difference.
    assert torch.allclose(gradient[0], gradient[1], atol=1e-4)
    assert not torch.allclose(gradient[0], gradients_at(one, 5), atol=1e-3)


def gradients_at(loop: Loop, step: int) -> Tensor:
    found = []
    clip = loop.fabric.clip_gradients
    loop.fabric.clip_gradients = lambda *a, **k: (  # type: ignore[method-assign]
        found.append(loop.trainee.network.head.weight.grad.clone()),
        clip(*a, **k),  # type: ignore[union-attr]
    )
    loop._step(step)
    loop.fabric.clip_gradients = clip  # type: ignore[method-assign]
    return found[0]
