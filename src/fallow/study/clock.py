"""The budget: one clock that starts with the process and is asked before anything is begun."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_age() -> float:
    """Return the seconds since this process started (0 where the system does not tell)."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        started = float(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, AttributeError, IndexError, ValueError):
        return 0.0


class Clock:
    """Wall clock of one run.

    Attributes:
        budget: Seconds promised for the whole run.
    """

    def __init__(self, budget: float, already: float = 0.0) -> None:
        self.budget = budget
        self._start = time.monotonic() - already

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds left of the budget; may be negative."""
        return self.budget - self.elapsed
