"""The moving average of a network's weights: a teacher that changes slowly, and often the better model."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """Exponential moving average of all weights and buffers of a module.

    The decay warms up, min(decay, (1 + t) / (10 + t)), so that the random first weights are forgotten quickly: without it
    an average over 1,000 steps is useless in a run of 500. Floating-point buffers (the statistics of BatchNorm) are
    averaged like weights, so that they fit the averaged weights; counters are copied.

    Args:
        module: What is followed; the average starts as a copy of it.
        decay: 0.99 looks back about 100 steps, 0.999 about 1,000.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.updates = 0
        own, source = dict(self._tensors(self.module)), dict(self._tensors(module))
        self._float = [(own[n], source[n]) for n in own if own[n].is_floating_point()]
        self._other = [(own[n], source[n]) for n in own if not own[n].is_floating_point()]

    @staticmethod
    def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
        return [*module.named_parameters(), *module.named_buffers()]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the followed module's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        if self._float:
            torch._foreach_lerp_([o for o, _ in self._float], [s.detach() for _, s in self._float], 1 - decay)
        for own, source in self._other:
            own.copy_(source)
