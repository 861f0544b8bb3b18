"""Everything random in a step comes from (seed, step): a run that goes on draws what it would have drawn."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, *what: int | str) -> int:
    """Return a seed that depends on all of ``what``; near inputs give unrelated seeds."""
    words = [zlib.crc32(w.encode()) if isinstance(w, str) else w for w in what]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, *what: int | str) -> torch.Generator:
    """Return a CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *what))


@dataclass
class Stream:
    """An endless sequence of shuffled indices: every item once in each round, and no state but the position.

    Attributes:
        count: Number of items.
        seed: Seed of the shuffling.
        name: What is streamed; other names give other orders.
    """

    count: int
    seed: int
    name: str
    _rounds: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def take(self, start: int, count: int) -> Tensor:
        """Return the indices at positions ``start`` to ``start + count``, (count,) long."""
        parts, end = [], start + count
        while start < end:
            round_, offset = divmod(start, self.count)
            part = self._round(round_)[offset : offset + end - start]
            parts.append(part)
            start += len(part)
        return torch.cat(parts)

    def _round(self, number: int) -> Tensor:
        if number not in self._rounds:
            for old in [n for n in self._rounds if n < number - 1]:
                del self._rounds[old]
            self._rounds[number] = torch.randperm(
                self.count, generator=generator(self.seed, self.name, number)
            )
        return self._rounds[number]
