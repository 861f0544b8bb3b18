"""A loop for one step of a pretraining method on vectors in place of images: what a paper's formula is written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fallow.methods import Batch, PretrainMethod, pretrain_method
from fallow.tasks import FeatureInfo

STEPS = 100


class Bare(nn.Module):
    """A projector that hands on what it gets, whatever else it is told."""

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        return x


class Play:
    """The loop's side of the contract: the backbone is the identity, the teacher's turns vectors a little."""

    rank, world_size, total_steps = 0, 1, STEPS

    def __init__(self, method: PretrainMethod, dim: int = 6, step: int = 0) -> None:
        self.method, self.step = method, step
        self.twist = torch.eye(dim) + 0.3 * torch.randn(dim, dim, generator=torch.Generator().manual_seed(9))

    def features(self, *images: Tensor) -> tuple[Tensor, ...]:
        return images

    def teacher_features(self, *images: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.detach() @ self.twist for x in images)

    def teacher_method(self) -> PretrainMethod:
        return self.method

    def reduce(self, value: Tensor) -> Tensor:
        return value.detach()

    def gather(self, value: Tensor) -> Tensor:
        return value


def bare(
    name: str,
    dim: int = 6,
    images: int = 200,
    batch: int = 5,
    known: Tensor | None = None,
    **options: Any,
) -> PretrainMethod:
    """Return a method without a projector: its loss is one of the vectors themselves."""
    torch.manual_seed(4)
    method = pretrain_method(name, **options)
    method.build(FeatureInfo(dim), images, 2 if method.views.labeled else 0, STEPS, batch, known=known)
    method.projector = Bare()
    return method


def vectors(count: int, n: int = 5, dim: int = 6, seed: int = 0) -> list[Tensor]:
    """Return views of n images as vectors: noisy, with scales and means of their own."""
    made = torch.Generator().manual_seed(seed)
    base = torch.randn(n, dim, generator=made) * 2 + 0.5
    return [(base + 0.7 * torch.randn(n, dim, generator=made)).requires_grad_() for _ in range(count)]


def batch_of(views: list[Tensor], index: list[int] | None = None) -> Batch:
    return Batch(torch.tensor(index or list(range(len(views[0])))), unlabeled=tuple(views))


def assert_equal_with_gradient(
    method: PretrainMethod,
    reference: Callable[[list[Tensor]], Tensor],
    views: list[Tensor],
    *,
    index: list[int] | None = None,
    play: Play | None = None,
) -> float:
    """Compare a step's loss and its gradient for all views with a reference's; return the loss."""
    loss = method.step(batch_of(views, index), play or Play(method, views[0].shape[1])).loss
    got = torch.autograd.grad(loss, views, allow_unused=True)
    expected = reference(views)
    wanted = torch.autograd.grad(expected, views, allow_unused=True)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert any(w is not None and float(w.abs().sum()) > 1e-3 for w in wanted)
    for mine, theirs, view in zip(got, wanted, views, strict=True):
        zero = torch.zeros_like(view)
        torch.testing.assert_close(
            zero if mine is None else mine, zero if theirs is None else theirs, rtol=1e-3, atol=1e-5
        )
    return float(loss.detach())
