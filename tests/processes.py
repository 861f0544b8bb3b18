"""Run a function in several processes that train together over gloo, and return what each of them says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as with_gradient
import torch.multiprocessing as mp
from torch import Tensor

Work = Callable[..., Any]


def in_processes(count: int, work: Work, *args: Any) -> list[Any]:
    """Call ``work(rank, count, *args)`` in each process.

    Args:
        count: Processes.
        work: A function of a module (not a local one); it finds the process group ready.
        args: What it gets beside its rank and their number.

    Returns:
        What each returned, by rank.
    """
    with TemporaryDirectory() as folder:
        mp.spawn(_begin, (count, folder, work, args), nprocs=count, join=True)
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(count)]


def _begin(rank: int, count: int, folder: str, work: Work, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    # A file, not a port: tests that run at the same time must not meet.
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=count, timeout=timedelta(seconds=60)
    )
    try:
        torch.save(work(rank, count, *args), Path(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()


class Together:
    """The part of a loop that talks to the other processes; to be mixed into a loop for one process."""

    def reduce(self, value: Tensor) -> Tensor:
        """Return the sum over all processes, without gradient."""
        value = value.detach().clone()
        dist.all_reduce(value)
        return value

    def gather(self, value: Tensor) -> Tensor:
        """Return the values of all processes, concatenated, with gradient."""
        if value.requires_grad:
            return torch.cat(with_gradient.all_gather(value))
        parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    def synchronize(self, gradient: Tensor) -> None:
        """Average a gradient over processes, in place, as data-parallel training does."""
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
