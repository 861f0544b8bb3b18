"""``fallow export``: take the model somewhere else, and know that it is still the same model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fallow.errors import RunError
from fallow.types import Json
from fallow.verbs.said import Said


def export(
    run: Annotated[Path, Parameter(help="Run directory, or its model/ folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder to write; must not exist or be empty.")] = Path("model"),
    format: Annotated[str, Parameter(help="all, or onnx for the ONNX file and labels.json alone.")] = "all",
) -> Said:
    """Copy a run's model to a folder of its own: ONNX, safetensors, labels and model card.

    The ONNX file takes the original image's pixels (uint8, height x width x 3, any size) and gives probabilities; the
    card shows the lines of code that use it. The copy is loaded and compared with the original before it is reported.

    Raises:
        RunError: There is no model, or ``out`` is not empty.
    """
    import numpy as np

    from fallow.verbs.predict import model_at

    if format not in ("all", "onnx"):
        raise RunError(f"'{format}' is not a format to export: give all or onnx")
    deployed = model_at(run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"the output folder '{out}' is not empty: choose another with --out")
    source = run / "model" if (run / "model" / "model.json").is_file() else run
    names = [
        p.name
        for p in source.iterdir()
        if format == "all" or p.name in ("model.onnx", "labels.json", "model.json")
    ]
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, out / name)
    probe = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    same = np.array_equal(deployed.predict_probs([probe]), model_at(out).predict_probs([probe]))
    if not same:
        raise RunError(
            f"the copy in '{out}' does not give what the model in '{source}' gives: is the disk in order?"
        )
    size = sum((out / n).stat().st_size for n in names) / 2**20
    return Said(
        f"wrote {', '.join(sorted(names))} to {out} ({size:.1f} MB); outputs compared with the original: the same",
        {"out": str(out), "files": list[Json](sorted(names)), "same": same},
    )
