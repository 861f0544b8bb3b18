"""What is in a folder: visible folders and files, through links, without going in circles."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_IGNORED = {
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "@eadir",
    "lost+found",
    "$recycle.bin",
    "system volume information",
}
_OWN = (("request.json", "config.yaml"), ("model.json", "model.onnx"))
"""Files by which a run or an exported model is known."""


@dataclass
class Level:
    """The visible content of one folder."""

    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def level_of(folder: Path) -> Level:
    """Return what is in ``folder``, sorted: no hidden files, no litter of operating systems, no runs of fallow.

    Runs are left out because they are written beside the photos when the command is given in their folder.

    Raises:
        OSError: The folder cannot be listed.
    """
    level = Level()
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.startswith(".") or entry.name.lower() in _IGNORED:
                continue
            if not _is_folder(entry):
                level.files.append(entry.name)
            elif not holds_runs(entry.path):
                level.folders.append(entry.name)
    return level


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where one may not look: reading it as a file says so
        return False


def holds_runs(folder: str) -> bool:
    """Tell whether ``folder`` is a run or a model that fallow wrote, or holds such folders."""
    if _is_own(folder):
        return True
    if os.path.basename(folder).lower() != "runs":
        return False
    try:
        with os.scandir(folder) as entries:
            return any(_is_own(entry.path) for entry in entries if _is_folder(entry))
    except OSError:
        return False


def _is_own(folder: str) -> bool:
    return any(all(os.path.isfile(os.path.join(folder, name)) for name in names) for names in _OWN)


def files_below(root: Path, folder: str, list_folder: Callable[[str], Level]) -> Iterator[str]:
    """Yield all visible files below ``folder``, as paths relative to ``root``.

    A folder that is reached twice through links is read once.

    Args:
        root: Where the paths start.
        folder: Where to look, relative to ``root``; empty for ``root`` itself.
        list_folder: Lists one folder, relative to ``root``; decides what an unreadable one means.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            info = (root / here).stat()
        except OSError:
            continue
        if (info.st_dev, info.st_ino) in seen:
            continue
        seen.add((info.st_dev, info.st_ino))
        level = list_folder(here)
        yield from (join(here, name) for name in level.files)
        waiting += [join(here, name) for name in reversed(level.folders)]


def join(*parts: str) -> str:
    """Join parts of a path with slashes, leaving out empty ones."""
    return "/".join(part for part in parts if part)
