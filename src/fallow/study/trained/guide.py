"""What a rung below says of the pool, as a method asks for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fallow.tasks import Posteriors


def by_position(probs: Tensor) -> Callable[[Tensor], Posteriors]:
    """Return a function from positions in the pool to what was said of them, from a table (pool, classes)."""
    held: dict[
        torch.device, Tensor
    ] = {}  # once where it is asked for: an accelerator would wait for each look elsewhere

    def say(index: Tensor) -> Posteriors:
        if index.device not in held:
            held[index.device] = probs.to(index.device)
        taken = held[index.device][index]
        return Posteriors("categorical", taken, torch.arange(len(taken), device=index.device))

    return say
