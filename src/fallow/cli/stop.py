"""How a command is stopped: Ctrl-C and SIGTERM end it in good order, from its first moment on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def stop_on_signals(received: list[int]) -> None:
    """Let Ctrl-C and SIGTERM end the run in good order, and a second one at once.

    Everything a run writes is whole at any moment, so that ending at once loses no more than the step at hand.
    """

    def stop(number: int, _: object) -> None:
        if received:
            os.write(2, b"\x1b[?25h" if sys.stderr.isatty() else b"")  # the cursor comes back
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # not the main thread: whoever called has handlers of their own
            signal.signal(number, stop)
