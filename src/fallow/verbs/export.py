"""``fallow export``: take the model somewhere else, and know that it is still the same model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fallow.errors import RunError
from fallow.types import Json
from fallow.verbs.said import Said

_ONNX_ALONE = ("model.onnx", "labels.json")


def export(
    run: Annotated[Path, Parameter(help="Run directory, or its model/ folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="A new or empty folder to write.", metavar="FOLDER")] = Path("model"),
    format: Annotated[
        Literal["all", "onnx"],
        Parameter(help="onnx: the ONNX file and labels.json alone, for other programs."),
    ] = "all",
) -> Said:
    """Copy a run's model to a folder of its own: ONNX, safetensors, labels and model card.

    The ONNX file takes the original image's pixels (uint8, height x width x 3, any size) and gives probabilities; the
    card shows the lines of code that use it. The copy is loaded and compared with the original before it is reported.

    Raises:
        RunError: There is no model, or ``out`` is not empty or cannot be written.
    """
    from fallow.export import model_at

    if format not in ("all", "onnx"):
        raise RunError(f"'{format}' is not a format to export: give all or onnx")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"the output folder '{out}' is not empty: choose another with --out")
    source = model_at(run).directory
    names = sorted(p.name for p in source.iterdir() if p.is_file() and not p.name.startswith("."))
    if format == "onnx":
        names = sorted(_ONNX_ALONE)
    try:
        size = _copy(source, names, out)
    except OSError as error:
        raise RunError(
            f"the output folder '{out}' cannot be written ({error.strerror or error}): choose another with --out"
        ) from error
    return Said(
        f"wrote {', '.join(names)} to {out} ({size / 2**20:.1f} MB); outputs compared with the original: the same",
        {"out": str(out), "files": list[Json](names), "same": True},
    )


def _copy(source: Path, names: list[str], out: Path) -> int:
    """Copy ``names`` to a folder beside ``out``, compare, and put it in its place; return the bytes copied."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        for name in names:
            shutil.copyfile(source / name, temporary / name)
        _compare(source, temporary, out)
        size = sum((temporary / name).stat().st_size for name in names)
        temporary.chmod(0o755)  # mkdtemp makes folders private
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return size


def _compare(source: Path, copy: Path, out: Path) -> None:
    """Make sure that the copied model gives what the original gives."""
    import numpy as np

    from fallow.export import Deployed, load_bundle

    original = load_bundle(source)
    # The ONNX file alone is no model folder: what it does is asked of it directly.
    copied = load_bundle(copy) if (copy / "model.json").is_file() else Deployed(copy, original.meta)
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    if not np.array_equal(original.predict_probs([image]), copied.predict_probs([image])):
        raise RunError(
            f"the copy in '{out}' does not give what the model in '{source}' gives: check the disk and try again"
        )
