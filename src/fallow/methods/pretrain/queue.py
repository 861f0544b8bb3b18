"""A queue of what was said of earlier images: negatives or company for a small batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """The newest so many vectors, with the images that they are of. It begins empty.

    Args:
        size: Vectors that it holds.
        dim: Length of a vector.
    """

    values: Tensor
    index: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(size, dim))
        self.register_buffer("index", torch.full((size,), -1, dtype=torch.long))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @property
    def filled(self) -> Tensor:
        """Which places hold something, bool (size,)."""
        return self.index >= 0

    @torch.no_grad()
    def push(self, values: Tensor, index: Tensor) -> None:
        """Put vectors (n, dim) of images (n,) in the place of the oldest."""
        size = len(self.index)
        values, index = values[-size:], index[-size:]
        places = (self.pointer + torch.arange(len(index), device=index.device)) % size
        self.values[places] = values.to(self.values.dtype)
        self.index[places] = index
        self.pointer.copy_((self.pointer + len(index)) % size)
