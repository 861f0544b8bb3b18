"""What was said of each image when it was last seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Memory(nn.Module):
    """One vector of unit length for each image, random at first; the same in all processes.

    Args:
        n_images: Images that are learned from.
        dim: Length of a vector.
    """

    values: Tensor

    def __init__(self, n_images: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("values", normalize(torch.randn(n_images, dim), dim=1))

    def company(self, index: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Return entries that images are told from, all or ``most`` of them drawn at random, and which are of other images.

        Args:
            index: Numbers of the images, (n,).
            most: Entries at most.

        Returns:
            Entries (m, dim) and bool (n, m).
        """
        total, device = len(self.values), index.device
        drawn = torch.randint(total, (most,), device=device) if total > most else None
        of = torch.arange(total, device=device) if drawn is None else drawn
        return self.values[of], index[:, None] != of  # a copy, which `remember` does not change

    @torch.no_grad()
    def remember(self, units: Tensor, index: Tensor, momentum: float = 0.0) -> None:
        """Mix what is said of images now into their entries.

        Args:
            units: (n, dim), unit length, of all processes.
            index: Numbers of the images, (n,). Of an image that is there twice the mean counts.
            momentum: Share of an entry that stays.
        """
        same = (index[:, None] == index).to(units.dtype)
        now = same @ units / same.sum(1, keepdim=True)
        self.values[index] = normalize(momentum * self.values[index] + (1 - momentum) * now, dim=1)
