"""A bar for whoever waits: on stderr, after two seconds, and only on a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 2.0
"""Seconds before the bar appears: shorter things would only flicker."""


class Watch:
    """Shows how far something is. Quiet when stderr is not a terminal.

    Args:
        what: What is done, in a few words.
        total: How many steps there are; None when nobody knows.
        enabled: False shows nothing.
    """

    def __init__(self, what: str, total: int | None = None, *, enabled: bool = True) -> None:
        self._what, self._total = what, total
        self._on = enabled and sys.stderr.isatty()
        self._begun = time.monotonic()
        self._bar: Progress | None = None

    def __call__(self, done: int) -> None:
        """Take note of progress; cheap."""
        if not self._on:
            return
        if self._bar is None:
            if time.monotonic() - self._begun < PATIENCE:
                return
            self._bar = self._start()
        self._bar.update(self._bar.task_ids[0], completed=done)

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn(" {task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(file=sys.stderr),
            transient=True,
        )
        bar.add_task(self._what, total=self._total)
        bar.start()
        return bar

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Watching:
    """Shows one thing after the other: a bar for each that takes its time. A `Progress` for any function that tells one.

    Args:
        enabled: False shows nothing.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._what = ""
        self._watch: Watch | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take note of progress; another ``what`` begins another bar."""
        if self._watch is None or what != self._what:
            self._end()
            self._what, self._watch = what, Watch(what, total or None, enabled=self._enabled)
        self._watch(done)

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
