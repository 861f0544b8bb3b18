"""How large the weights are, against what they were: a rate that is too high shows there before it shows in the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TOO_MUCH = 2.0
"""Weights do not grow so many times in the first steps of a run that learns."""
RATE = "{}: the learning rate is too high; divide it by 10 or more (--set optimization.lr)"


class Growth:
    """Remembers the norms that the weights of all layers had.

    Args:
        module: What is trained; None: nothing is looked at, and nothing grows.

    Attributes:
        sizes: Norm of each weight of two and more dimensions that is trained, at first.
    """

    def __init__(self, module: nn.Module | None) -> None:
        parameters = () if module is None else module.parameters()
        self._weights: list[Tensor] = [p for p in parameters if p.requires_grad and p.ndim > 1]
        self.sizes = self._measured()

    def times(self) -> float:
        """Return how many times as large as at first the weights are: the median over the weights of all layers."""
        now = [b / a for a, b in zip(self.sizes, self._measured(), strict=True) if a > 0]
        return sorted(now)[len(now) // 2] if now else 1.0

    def sentence(self, step: int) -> str:
        """Return what is wrong and what helps; empty where the weights have not grown too much."""
        grown = self.times()
        said = f"the weights have grown {grown:.0f}-fold in {step + 1} steps"
        return RATE.format(said) if grown > TOO_MUCH else ""

    @torch.no_grad()
    def _measured(self) -> list[float]:
        return torch.stack(torch._foreach_norm(self._weights)).tolist() if self._weights else []
