"""Folders that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fallow.errors import RunError


@contextmanager
def whole_folder(directory: Path) -> Iterator[Path]:
    """Yield a folder beside ``directory`` that takes its place when the block ends well: a kill leaves the old or the new one.

    Raises:
        RunError: The disk is full, or the folder cannot be written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    recover(directory)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".part", dir=directory.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes folders private
        _swap(temporary, directory)
    except OSError as error:
        raise RunError(
            f"the model folder '{directory}' could not be written ({error.strerror or error}): "
            "free some space and go on with --resume, or choose another place with --out"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write tensors and arrays to a safetensors file of a `whole_folder`.

    Raises:
        OSError: The disk is full.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    own = {k: torch.as_tensor(v).detach().cpu().clone().contiguous() for k, v in tensors.items()}
    try:
        save_file(own, path, metadata={"format": "pt"})
    except SafetensorError as error:  # how it tells of a full disk
        raise OSError(str(error)) from error
    path.chmod(0o644)  # safetensors makes files private; these are as shareable as the others


def digest(path: Path) -> str:
    """Return a hash of a file's content."""
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def recover(directory: Path) -> None:
    """Bring the old folder back if a kill in `whole_folder` came before the new one took its place."""
    old = _aside(directory)
    if old.exists() and not directory.exists():
        old.rename(directory)


def _aside(directory: Path) -> Path:
    directory = directory.resolve()  # "." has no name
    return directory.with_name(f".{directory.name}.old")


def _swap(new: Path, directory: Path) -> None:
    """Put ``new`` in the place of ``directory``. A folder cannot be replaced in one step, hence `recover`."""
    old = _aside(directory)
    for path in new.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
