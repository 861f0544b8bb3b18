"""Words that joint methods share: decisions of units, sums over all processes, running statistics, ramps.

A *decision* is what a posterior amounts to: one of the classes, or yes or no for each class of a multi-label image. Seen
as a table of (problems, outcomes), the first is one problem with a row of classes and the second is one problem a
class with two outcomes, so that a rule written for the table holds for both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fallow.methods.base import StepContext
from fallow.tasks import Posteriors

TINY = 1e-8


def chance(posteriors: Posteriors) -> float:
    """Return the probability of each outcome where nothing is known."""
    return 0.5 if posteriors.independent else 1.0 / posteriors.probs.shape[1]


def outcomes(posteriors: Posteriors) -> Tensor:
    """Return the probability of every outcome, (units, problems, outcomes)."""
    probs = posteriors.probs
    return torch.stack([1 - probs, probs], 2) if posteriors.independent else probs[:, None]


def outcome_table(shares: Tensor, posteriors: Posteriors) -> Tensor:
    """Return class shares (classes,) as a table (problems, outcomes)."""
    return torch.stack([1 - shares, shares], 1) if posteriors.independent else shares[None]


def of_decision(table: Tensor, posteriors: Posteriors) -> Tensor:
    """Look up each unit's decision in a table (problems, outcomes); the shape of ``posteriors.score``."""
    if posteriors.independent:
        return torch.where(posteriors.probs > 0.5, table[:, 1], table[:, 0])
    return table[0][posteriors.probs.argmax(1)]


def by_class(table: Tensor, posteriors: Posteriors) -> Tensor:
    """Return one number a class of a table (problems, outcomes): of the class itself, or of its yes."""
    return table[:, 1] if posteriors.independent else table[0]


def per_class(weights: Tensor, posteriors: Posteriors) -> Tensor:
    """Give weights of the shape of ``score`` a dimension that goes with ``probs``."""
    return weights if posteriors.independent else weights[:, None]


def alike(one: Posteriors, other: Posteriors) -> Tensor:
    """Return 1.0 where two decide the same of a unit and 0.0 where not; the shape of ``score``."""
    if one.independent:
        same = (one.probs > 0.5) == (other.probs > 0.5)
    else:
        same = one.probs.argmax(1) == other.probs.argmax(1)
    return same.to(one.probs.dtype)


def sums(values: Tensor, weights: Tensor, ctx: StepContext) -> tuple[Tensor, Tensor]:
    """Sum over the first dimension in all processes.

    Args:
        values: (units, ...).
        weights: As ``values``, or broadcast to it.
        ctx: The loop.

    Returns:
        The sum of ``weights * values``, and of the weights.
    """
    values = values.detach()
    weights = weights.detach().expand_as(values)
    total, weight = ctx.reduce(torch.stack([(weights * values).sum(0), weights.sum(0)])).unbind()
    return total, weight


def weighted_mean(values: Tensor, weights: Tensor, ctx: StepContext) -> Tensor:
    """Return the sum of ``weights * values`` over the sum of weights in all processes, as `global_mean` scales it."""
    total = ctx.reduce(weights.detach().sum())
    return ctx.world_size * (weights * values).sum() / total.clamp_min(1)


def smooth_ramp(done: float) -> float:
    """Rise from near 0 to 1 at ``done`` = 1: exp(-5 (1 - x)^2)."""
    return math.exp(-5 * (1 - min(max(done, 0.0), 1.0)) ** 2)


class Running(nn.Module):
    """An exponential moving average that is part of a method's state.

    Args:
        shape: Of the average.
        momentum: Weight of the past: 0.999 looks back about 1,000 steps.
    """

    value: Tensor
    updates: Tensor

    def __init__(self, *shape: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(shape))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, total: Tensor, count: Tensor, start: Tensor | float) -> Tensor:
        """Move towards ``total / count``; where the count is 0, nothing is known and nothing moves.

        Args:
            total: Sum over all processes, of the average's shape.
            count: How many it is the sum of.
            start: The average before the first step.

        Returns:
            The average now.
        """
        # Chosen on the device: asking whether this is the first step would make a GPU wait in every one.
        old = torch.where(self.updates == 0, start, self.value)
        new = self.momentum * old + (1 - self.momentum) * total / count.clamp_min(TINY)
        new = torch.where(count > 0, new, old)
        self.value.copy_(new)
        self.updates += 1
        return new


class Alignment(nn.Module):
    """Distribution alignment (ReMixMatch, arXiv 1911.09785): posteriors scaled by wanted over predicted class shares.

    The predicted shares are a running mean that starts at the wanted ones: nothing is scaled before it is known to be
    off.
    """

    def __init__(self, classes: int, momentum: float) -> None:
        super().__init__()
        self.predicted = Running(classes, momentum=momentum)

    def forward(self, posteriors: Posteriors, to: Tensor, trust: Tensor, ctx: StepContext) -> Posteriors:
        """Count these posteriors in and return them aligned."""
        total, weight = sums(posteriors.probs, per_class(trust, posteriors), ctx)
        return posteriors.align(to, self.predicted.update(total, weight, start=to))


def decided(posteriors: Posteriors, weights: Tensor) -> Tensor:
    """Sum weights of the shape of ``score`` by decided class, (classes,); for multi-label by class said yes to."""
    if posteriors.independent:
        return ((posteriors.probs > 0.5) * weights).sum(0)
    chosen = posteriors.probs.argmax(1)
    return weights.new_zeros(posteriors.probs.shape[1]).index_add(0, chosen, weights)
