"""The command line: each command is a verb of the Python interface with the same names and defaults."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from fallow.cli.stop import stop_on_signals


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    0: well. 2: the input cannot be used, and one sentence says why. 130, 143: stopped by Ctrl-C or SIGTERM; one sentence
    says what is kept and how to go on.
    """
    received: list[int] = []
    stop_on_signals(received)
    try:
        from fallow.cli.app import run  # takes a second and more, in which somebody may think better of it

        run(argv)
    except KeyboardInterrupt as stop:
        if "--debug" in (sys.argv if argv is None else argv):
            raise
        said = " ".join(str(stop).split()) or "stopped; nothing was left half-written"
        sys.stderr.write(f"\nfallow: {said}\n")
        raise SystemExit(128 + (received[0] if received else signal.SIGINT)) from None
