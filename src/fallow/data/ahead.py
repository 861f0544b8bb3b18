"""Working ahead: results in order from a few threads, with few of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Out = TypeVar("Out")


def cores() -> int:
    """Return the number of processors that this process may use: a container or a batch job may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Return the number of threads for reading: the processors this process may use, at most 8."""
    return min(8, cores())


def in_order(work: Callable[[Item], Out], items: Iterable[Item], workers: int) -> Iterator[Out]:
    """Yield ``work(item)`` for each item, in order; image decoders release the interpreter lock.

    At most four items a thread are begun before the first of them is taken.
    """
    waiting: deque[Future[Out]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fallow-read")
    try:
        for item in items:
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
