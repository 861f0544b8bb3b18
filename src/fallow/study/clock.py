"""The budget: one clock that starts with the process and is asked before anything is begun."""

from __future__ import annotations

import time

EXIT_SECONDS = 0.3
"""What a process takes to end after its last file: part of the wall clock that a person waits for."""
_MARGIN, _MARGIN_MOST = 0.05, 5.0
"""Share of the budget, up to some seconds, that is aimed to be left over: what is estimated may take longer."""
TOLERANCE = 1.1
"""A budget is kept when no more than this multiple of it is used."""


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
        """Seconds left to work, a margin and the end of the process set aside; may be negative."""
        return self.budget - min(_MARGIN * self.budget, _MARGIN_MOST) - EXIT_SECONDS - self.elapsed
