"""Models that a user gives: named by a path, or objects of Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fallow.errors import ConfigError


def names_and_objects(given: Any) -> tuple[list[str], list[Any]]:
    """Return the models that are named and those that are objects, of one or several."""
    models = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    names = [str(one) for one in models if isinstance(one, str | Path)]
    return names, [one for one in models if not isinstance(one, str | Path)]


def check_there(names: Sequence[str]) -> None:
    """Make sure that named models are there, before anything is read or made.

    Raises:
        FallowError: One is neither a run with a model nor an ONNX file.
    """
    from fallow.export import model_at

    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            model_at(path)
        elif not (path.is_file() and path.suffix == ".onnx"):
            what = "is no ONNX file" if path.exists() else "is not there"
            raise ConfigError(f"the teacher '{name}' {what}: give a run directory, or an .onnx file")
