"""Where the model is that a path means: a run, its ``model/`` folder, or the ONNX file in it."""

from __future__ import annotations

from pathlib import Path

from fallow.errors import RunError
from fallow.export.bundle import GRAPH, META, Deployed, load_bundle


def model_folder(path: Path) -> Path | None:
    """Return the folder with the model that ``path`` means: a run's, one by itself, that of a ``model.onnx``; None without."""
    beside = (path.parent,) if path.name == GRAPH and path.is_file() else ()
    return next((folder for folder in (path / "model", path, *beside) if (folder / META).is_file()), None)


def model_at(model: str | Path) -> Deployed:
    """Load the deployed model of a run directory, of its ``model/`` folder, or of the ONNX file in it.

    Raises:
        RunError: There is no model.
    """
    path = Path(model)
    folder = model_folder(path)
    if folder is not None:
        return load_bundle(folder)
    if (path / "request.json").is_file():
        raise RunError(
            f"the run '{model}' was stopped before it had a model: start the command that began it again, with --resume"
        )
    raise RunError(
        f"'{model}' holds no model of fallow: give a run directory such as runs/demo, or its model/ folder"
    )
