"""How much of its budget a run has used: what its folder says, and the age of the process."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fallow.record.rundir import append_line, read_lines

_CLOCK = "clock.jsonl"


def process_age() -> float:
    """Return the seconds since this process started (0 where the system does not tell)."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        started = float(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, AttributeError, IndexError, ValueError):
        return 0.0


def note_elapsed(run: Path, what: str, elapsed: float) -> None:
    """Write down how old the run is now that ``what`` is done: every fit says it too, but much is done before the first."""
    append_line(run / _CLOCK, {"done": what, "elapsed": elapsed})


def elapsed_before(run: Path) -> float:
    """Return how much of its budget an interrupted run had used when it last wrote it down, in seconds."""
    files = [run / _CLOCK, *run.glob("stages/*/metrics.jsonl")]
    return max((float(line.get("elapsed", 0.0)) for file in files for line in read_lines(file)), default=0.0)
