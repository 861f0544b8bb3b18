"""What a person is told when something cannot be done.

Every error that bad input can cause is a ``FallowError``: one sentence that names the file or key, says what was
expected and what to do. The command line prints the sentence and exits with code 2; a traceback means a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FallowError(Exception):
    """Base of all errors that have a cause in what the user gave. ``str(error)`` is the sentence to show."""

    exit_code = 2


class DataError(FallowError):
    """The images, labels or folders given cannot be used."""


class ConfigError(FallowError):
    """An option, a key or a value is unknown or out of range."""


class WeightsError(FallowError):
    """Pretrained weights are missing, damaged or do not fit the model."""


class RunError(FallowError):
    """A run directory is not empty, not a run, or not resumable; or the disk is full."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the valid name nearest to ``name``, or an empty string."""
    match = get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" Did you mean '{match[0]}'?" if match else ""
