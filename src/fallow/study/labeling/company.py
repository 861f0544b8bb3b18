"""Processes that answer one pool together. They meet in the run's folder: files outlive a kill, and need no port."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fallow.errors import RunError
from fallow.record import read_json, write_json

PATIENCE = 600.0
"""Seconds without a sign of life after which a process is taken to be gone. Opening a large model over a slow network takes less."""
POLL = 0.2
"""Seconds between two looks at the folder."""
_BEAT = 1.0

State = Literal["reading", "answering", "done", "ended"]


@dataclass
class Company:
    """The processes that answer together, as one of them sees the others.

    Each writes a file that changes while it lives. Only *changes* are looked at, by this process's own clock: the clocks of
    two machines, and what an earlier attempt has left in the folder, do not matter.

    Attributes:
        run: The run's folder.
        rank: This process, from 0. Process 0 reads the data, joins the answers and does whatever follows.
        count: How many there are.
    """

    run: Path
    rank: int = 0
    count: int = 1
    _state: State = "reading"
    _beats: int = 0
    _beaten: float = 0.0
    _name: str = field(default_factory=lambda: secrets.token_hex(4))
    _seen: dict[int, tuple[Any, float]] = field(default_factory=dict)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Show the others, while the block runs, that process 0 is alive; and at its end, how it ended."""
        if self.count == 1:
            yield
            return
        for rank in range(1, self.count):
            self._file(rank).unlink(missing_ok=True)  # what an earlier attempt has left
        end = threading.Event()

        def beat() -> None:
            while not end.wait(_BEAT):
                with suppress(OSError, RunError):  # a full disk is told by whoever has something to lose
                    self.beat()

        self.enter("reading")
        thread = threading.Thread(target=beat, name="fallow-beat", daemon=True)
        thread.start()
        last: State = "ended"
        try:
            yield
            last = "done"
        finally:
            end.set()
            thread.join()
            with suppress(OSError, RunError):
                self.enter(last)

    def enter(self, state: State) -> None:
        """Tell the others what this process does from now on."""
        if self.count > 1:
            self._state, self._beaten = state, 0.0
            self.beat()

    def beat(self) -> None:
        """Give a sign of life, once a second at most; cheap to call after each image."""
        now = time.monotonic()
        if self.count == 1 or (self._beaten and now - self._beaten < _BEAT / 2):
            return
        self._beaten, self._beats = now, self._beats + 1
        write_json(self._file(self.rank), {"state": self._state, "beat": self._beats, "name": self._name})

    def gone(self, rank: int) -> bool:
        """Say whether a process has ended, or has given no sign of life for so long that it must have."""
        found = self._read(rank)
        now = time.monotonic()
        if rank not in self._seen or self._seen[rank][0] != found:
            self._seen[rank] = (found, now)
        return (found or {}).get("state") in ("ended", "done") or now - self._seen[rank][1] > PATIENCE

    def join(self, finished: Path) -> bool:
        """Wait until process 0 has read the data. Return False where there is nothing left to answer.

        Args:
            finished: A file that is there once all is done.

        Raises:
            RunError: Process 0 has ended, or there is none.
        """
        last, since, alive = (
            self._read(0),
            time.monotonic(),
            False,
        )  # the first may be what an earlier attempt has left
        while not finished.is_file():
            found = self._read(0)
            if found != last:
                last, since, alive = found, time.monotonic(), alive or found is not None
            state = found.get("state") if found else "ended"  # a run without a result is removed
            if alive and state != "reading":
                if state == "ended":
                    raise self._left_alone()
                return state == "answering"
            if time.monotonic() - since > PATIENCE:
                raise self._left_alone()
            time.sleep(POLL)
        return False

    def wait(self, finished: Path) -> None:
        """Wait until process 0 has done all.

        Args:
            finished: A file that is there then.

        Raises:
            RunError: Process 0 has ended before.
        """
        while not finished.is_file():
            self.check_leader()
            time.sleep(POLL)

    def check_leader(self) -> None:
        """Make sure that somebody waits for the answers.

        Raises:
            RunError: Process 0 has ended, and not because all was done.
        """
        if self.rank and self.gone(0) and (self._read(0) or {}).get("state") != "done":
            raise self._left_alone()

    def _left_alone(self) -> RunError:
        return RunError(
            f"process 0 of {self.count}, which reads the data and joins the answers in '{self.run}', has ended or was never started: "
            "see what it said; all need the same --out on a disk that they share; go on with --resume"
        )

    def _file(self, rank: int) -> Path:
        return self.run / "processes" / f"{rank}.json"

    def _read(self, rank: int) -> dict[str, Any] | None:
        try:
            found = read_json(self._file(rank))
        except RunError:
            return None
        return found if isinstance(found, dict) else None
