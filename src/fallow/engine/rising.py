"""A short run in which the learning rate rises, to see which rates work."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fallow.engine.health import Watch
from fallow.engine.loop import Loop
from fallow.engine.optim import lr_scale
from fallow.methods import Step


class _Losses(Watch):
    """Writes the losses down where a fit would complain of them."""

    def __init__(self) -> None:
        super().__init__(1)
        self.seen: list[float] = []

    def see(self, step: int, made: Step) -> dict[str, float] | None:
        """Keep the loss of a step."""
        self.seen.append(float(made.loss))
        return None


def losses_at(loop: Loop, rates: Sequence[float]) -> list[float]:
    """Return the loss of each of some steps, before its update, with a given learning rate in each.

    The steps end early at a loss that is no number. The loop is used
    up by it: its network has taken the steps.

    Args:
        loop: Before its first step.
        rates: Learning rate of each step, above 0, (n,); no more than the loop has steps.
    """
    watch = _Losses()
    loop.watch = watch
    for step, rate in enumerate(rates):
        for group in loop.optimizer.param_groups:
            group["peak"] = rate / lr_scale(step, loop.settings)
        loop._step(step)
        if not torch.isfinite(torch.tensor(watch.seen[-1])):
            break
    return watch.seen
