"""A run's directory: where everything is, written so that a kill at any moment leaves whole files only."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fallow.errors import RunError

MINIMUM_FREE_BYTES = 200 * 2**20
"""A run refuses to start below this: its model, report and cache would not fit."""


LOCK = ".lock"
"""File in a run's directory that is locked while a process trains in it; it says nothing when it is not."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same directory that replaces ``path`` when the block ends well.

    Same directory, because ``os.replace`` is only atomic within one file system; fsync before it, because a rename
    may otherwise reach the disk before the content does.

    Raises:
        RunError: The disk is full.
    """
    with _full_disk_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)  # mkstemp makes files private; a run's files are as shareable as any other
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _full_disk_told(path: Path) -> Iterator[None]:
    """Turn what the system says of a full disk, or a used-up quota, into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk is full: '{path}' could not be written; free some space and give the command again, "
                "a run with --resume"
            ) from error
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON to ``path`` atomically (NaN and infinity are refused: they are not JSON)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # File names that are not UTF-8 reach here as lone surrogates: JSON has an escape for them, UTF-8 has not.
    write_bytes(path, text.encode(errors="backslashreplace"))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RunError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"'{path}' cannot be read as JSON ({error}): was the run stopped before it wrote it?"
        ) from error


def append_line(path: Path, value: Any) -> None:
    """Append ``value`` as one JSON line to ``path`` and see it to the disk.

    A kill can leave half a line; the next one starts on a line of its own, and `read_lines` passes over the torn one.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")
    with _full_disk_told(path), path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            text = text if file.read(1) == b"\n" else b"\n" + text
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file of lines; none where there is no file."""
    if not path.is_file():
        return []
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def is_leftover(path: Path) -> bool:
    """Return True for a file or folder that a kill left half-written: it was never part of anything."""
    return path.name.startswith(".") and path.name.endswith(".part")


class RunDir:
    """The directory of one run and the names of what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None

    config = property(lambda self: self.path / "config.yaml")
    decisions = property(lambda self: self.path / "decisions.json")
    audit = property(lambda self: self.path / "audit.json")
    plan = property(lambda self: self.path / "plan.json")
    splits = property(lambda self: self.path / "splits.parquet")
    result = property(lambda self: self.path / "result.json")
    pretrained = property(lambda self: self.path / "pretrain.json")
    report = property(lambda self: self.path / "report.html")
    model = property(lambda self: self.path / "model")
    test_reads = property(lambda self: self.path / "test_reads.jsonl")

    @classmethod
    def create(cls, path: Path) -> RunDir:
        """Make a new, empty run directory, locked for this process.

        Raises:
            RunError: ``path`` holds something already, or the disk has too little room.
        """
        if path.exists() and not path.is_dir():
            raise RunError(f"the output folder '{path}' is a file: choose another with --out")
        # A kill in a run's first moment leaves its request and no config: nothing that could be lost or resumed.
        if path.exists() and not all(
            is_leftover(p) or p.name in ("request.json", LOCK) for p in path.iterdir()
        ):
            raise RunError(
                f"the output folder '{path}' is not empty: choose another with --out, or go on with that run by --resume"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"the output folder '{path}' cannot be made ({error.strerror}): choose another with --out"
            ) from error
        free = shutil.disk_usage(path).free
        if free < MINIMUM_FREE_BYTES:
            raise RunError(
                f"not enough disk: '{path}' has {free / 2**20:.0f} MB free and a run needs "
                f"{MINIMUM_FREE_BYTES / 2**20:.0f} MB; free some space or choose another place with --out"
            )
        run = cls(path)
        run.lock()
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Open an existing run.

        Raises:
            RunError: ``path`` is not a run directory.
        """
        run = cls(path)
        if not run.config.is_file():
            raise RunError(
                f"'{path}' is not a run of fallow (it has no config.yaml): give the folder that train wrote"
            )
        return run

    def stage(self, index: int, rung: str) -> Path:
        """Return (and make) the directory of one rung, ``stages/<n>-<rung>/``."""
        path: Path = self.path / "stages" / f"{index}-{rung.replace(':', '-')}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def kept_rung(self) -> str:
        """Return the rung that ``model/`` holds; an empty name before the first is finished."""
        try:
            return str(read_json(self.model / "model.json")["rung"])
        except (RunError, KeyError, TypeError):
            return ""

    def lock(self) -> None:
        """Keep other processes from training in this directory until `release`, or until this process is dead.

        Raises:
            RunError: Another process is at work in it.
        """
        # One lock a path and process: a call that failed in a notebook must not stand in the way of the next one.
        lock = FileLock(self.path.absolute() / LOCK, thread_local=False, is_singleton=True)
        try:
            if not lock.is_locked:
                lock.acquire(blocking=False)
        except Timeout as error:
            raise RunError(
                f"another fallow is at work in '{self.path}': wait until it has ended, or choose another folder with --out"
            ) from error
        except (OSError, NotImplementedError):
            return  # no right to write here, or a file system without locks: whatever follows will tell
        self._lock = lock

    def release(self) -> None:
        """Let other processes train in this directory again."""
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None

    def sweep(self) -> None:
        """Lock the directory and remove what a killed process left half-written.

        Raises:
            RunError: Another process is at work in it: what looks left over is being written.
        """
        self.lock()
        for path in [*self.path.glob(".*.part"), *self.path.glob("stages/*/.*.part")]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
