"""``fallow init``: a config file to start from, every key explained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fallow.config import ReplayConfig, Section, TrainConfig
from fallow.errors import RunError
from fallow.record.rundir import write_bytes
from fallow.verbs.said import Said


def _lines(model: type[Section], indent: str = "") -> list[str]:
    lines = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if nested is ReplayConfig:  # written by runs, not by people
            continue
        if isinstance(nested, type) and issubclass(nested, Section):
            lines += [
                "",
                f"{indent}# {field.description}",
                f"{indent}{name}:",
                *_lines(nested, indent + "  "),
            ]
            continue
        default = field.get_default(call_default_factory=True)
        shown = {"None": "null", "True": "true", "False": "false"}.get(str(default), default)
        lines += [f"{indent}# {field.description}", f"{indent}{name}: {shown}"]
    return lines


def init(
    path: Annotated[Path, Parameter(help="File to write; must not exist.", metavar="FILE")] = Path(
        "fallow.yaml"
    ),
    /,
) -> Said:
    """Write a config file with every option, its default and what it means.

    Change what you want to pin and give it to `fallow train DATA --config fallow.yaml`.

    Raises:
        RunError: The file is there already, or cannot be written.
    """
    if os.path.lexists(path):
        raise RunError(f"'{path}' is there already: remove it or name another file")
    try:
        write_bytes(path, ("\n".join(_lines(TrainConfig)).lstrip("\n") + "\n").encode())
    except OSError as error:
        raise RunError(
            f"'{path}' cannot be written ({error.strerror or error}): name another file"
        ) from error
    return Said(f"wrote {path}; give it to  fallow train DATA --config {path}", {"path": str(path)})
