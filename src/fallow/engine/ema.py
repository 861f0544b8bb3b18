"""The moving average of a network's weights: a teacher that changes slowly, and often the better model."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of the weights and buffers of a module.

    The decay warms up, min(decay, (1 + t) / (10 + t)), so that the random first weights are forgotten quickly: without it
    an average over 1,000 steps is useless in a run of 500. Floating-point buffers (the statistics of BatchNorm) are
    averaged like weights, so that they fit the averaged weights; counters are copied. Weights that are not trained, and
    what is kept ``apart``, are shared with the followed module: they take neither memory nor time.

    Args:
        module: What is followed; the average starts as a copy of it.
        decay: 0.99 looks back about 100 steps, 0.999 about 1,000.
        apart: Buffers that are no part of a model, such as what a method remembers of each image: an average of them would
            mean nothing.
    """

    def __init__(self, module: nn.Module, decay: float, apart: Iterable[Tensor] = ()) -> None:
        self.decay, self.updates = decay, 0
        shared = [*apart, *(p for p in module.parameters() if not p.requires_grad)]
        self.module = copy.deepcopy(module, {id(tensor): tensor for tensor in shared}).eval()
        self.module.requires_grad_(False)
        theirs = {id(tensor) for tensor in shared}
        source = {name: t for name, t in _named(module).items() if id(t) not in theirs}
        self.tensors = {name: t for name, t in _named(self.module).items() if name in source}
        pairs = [(own, source[name]) for name, own in self.tensors.items()]
        self._float = [pair for pair in pairs if pair[0].is_floating_point()]
        self._other = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, decay: float | None = None) -> None:
        """Move towards the followed module's present weights.

        Args:
            decay: Of this update, for a method that has a schedule of its own; None: the constant one, warmed up.
        """
        self.updates += 1
        if decay is None:
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        if self._float:
            torch._foreach_lerp_([o for o, _ in self._float], [s.detach() for _, s in self._float], 1 - decay)
        for own, source in self._other:
            own.copy_(source)


def _named(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
