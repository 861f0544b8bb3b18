"""Where things that can be computed again are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Return the folder for caches: ``$FALLOW_CACHE``, or the user's cache folder of this system.

    The folder is not made here; who writes makes it.
    """
    chosen = os.environ.get("FALLOW_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("fallow"))
