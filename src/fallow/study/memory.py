"""What happens when an accelerator's memory runs out while a network trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fallow.engine import Diverged


@contextmanager
def memory_enough() -> Iterator[None]:
    """Turn an accelerator's memory running out into a reason to give the rung up."""
    from torch import OutOfMemoryError

    try:
        yield
    except OutOfMemoryError as error:
        raise Diverged(
            "the accelerator's memory ran out: lower --set optimization.batch_size, or raise optimization.accumulate"
        ) from error
