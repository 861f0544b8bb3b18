"""What a log file sees of a run: one plain line for each thing that is finished, no bars, no colors."""

from __future__ import annotations

import time
from typing import IO

from fallow.record import Counts, RungResult
from fallow.report.words import counts_line, duration, percent, points, rung_title

PATIENCE = 2.0
"""Seconds that a stage must have taken to be worth a line."""
_DONE = {
    "embed": "images turned into vectors",
    "pretrain": "learned from the images",
    "export": "model written",
    "test": "test images scored",
    "report": "report written",
}
_ASCII = str.maketrans(
    dict(zip("·█▌━─−–×…±←", ("|", "#", " ", "=", "-", "-", "-", "x", "~", "+-", "<-"), strict=True))
)


def in_ascii(text: str) -> str:
    """Return the same text in ASCII; columns stay where they are."""
    return text.replace(" ± ", " +-").translate(_ASCII).encode("ascii", "replace").decode()


def speaks_unicode(stream: IO[str]) -> bool:
    """Return True when ``stream`` can print block characters."""
    try:
        "█·±←−".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class PlainLines:
    """Writes a line when a stage or a rung is finished, and each note.

    Args:
        stream: Where to write; once it takes nothing more, nothing more is written.
        already: Seconds of the run that passed before.
    """

    def __init__(self, stream: IO[str], already: float = 0.0) -> None:
        self._stream: IO[str] | None = stream
        self._unicode = speaks_unicode(stream)
        self._stage_begun = time.monotonic()
        self._begun = self._stage_begun - already
        self._stage = ""
        self._told: set[str] = set()

    def read(self, data: str, counts: Counts) -> None:
        """Say what was found in the data."""
        skipped = f", {counts.skipped:,} skipped" if counts.skipped else ""
        self._write(f"{data}: {counts_line(counts)}{skipped}")
        self._begin("")

    def stage(self, name: str) -> None:
        """Take note that ``name`` begins, which ends the stage before it; rungs end with `rung`."""
        if name == self._stage:
            return
        spent = time.monotonic() - self._stage_begun
        if self._stage in _DONE and spent >= PATIENCE:
            self._write(f"{_DONE[self._stage]} in {duration(spent)}")
        self._begin(name)

    def rung(self, result: RungResult) -> None:
        """Say how good a finished rung is, the first time that it is told."""
        if result.rung in self._told:
            return
        self._told.add(result.rung)
        parts = [f"done in {duration(result.seconds)}"]
        if result.held_out is not None:
            parts.append(f"error {percent(1 - result.held_out.value)} on held-out labels")
        if result.gain is not None:
            parts.append(f"gain {points(result.gain)} points")
        self._write(f"{rung_title(result.rung)}: {', '.join(parts)}")

    def line(self, sentence: str) -> None:
        """Say how far something is."""
        self._write(sentence)

    def note(self, sentence: str) -> None:
        """Say something that a person should know."""
        self._write(f"note: {sentence}")

    def _begin(self, stage: str) -> None:
        self._stage, self._stage_begun = stage, time.monotonic()

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        line = f"fallow {duration(time.monotonic() - self._begun):>12}  {text}"
        try:
            self._stream.write((line if self._unicode else in_ascii(line)) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more: a run does not end for that
            self._stream = None
