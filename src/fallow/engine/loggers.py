"""Where the figures of a fit go: always a file of JSON lines, and the trackers that people use beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from fallow.errors import ConfigError, nearest
from fallow.record.rundir import write_bytes

TRACKERS = ("tensorboard", "wandb", "mlflow")


class Logger(Protocol):
    """Takes numbers."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step."""

    def close(self) -> None:
        """Write what is not written yet."""


class JsonLines:
    """One line a look, in a file; a fit that goes on drops what came after its checkpoint.

    Args:
        path: The file.
        start: First step that will be logged.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(path) if line["step"] < start]
        # Atomic: a kill here must not take what was logged before.
        write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step."""
        line = {"step": step, **{k: round(v, 6) for k, v in figures.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
            found.append({**line, "step": int(line["step"])})
        except (ValueError, TypeError, KeyError):  # the line that a kill cut in two
            break
    return found


class Tracker:
    """TensorBoard, Weights & Biases or MLflow, by one interface; each is installed by who wants it.

    Args:
        name: ``tensorboard``, ``wandb`` or ``mlflow``.
        folder: Where files go.
        run: What the run is called.

    Raises:
        ConfigError: There is no such tracker, or its package is not installed.
    """

    def __init__(self, name: str, folder: Path, run: str) -> None:
        self._made = self._start(name, folder, run)
        self._name = name

    @staticmethod
    def _start(name: str, folder: Path, run: str) -> Any:
        module = _package(name)
        if name == "tensorboard":
            return module.SummaryWriter(str(folder / "tensorboard" / run))
        if name == "wandb":
            return module.init(project="fallow", name=run, dir=str(folder), reinit="create_new")
        module.set_tracking_uri((folder / "mlruns").resolve().as_uri())
        module.set_experiment("fallow")
        return module.start_run(run_name=run, nested=True)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step."""
        if self._name == "tensorboard":
            for key, value in figures.items():
                self._made.add_scalar(key, value, step)
        elif self._name == "wandb":
            self._made.log(dict(figures), step=step)
        else:
            import_module("mlflow").log_metrics(dict(figures), step=step, run_id=self._made.info.run_id)

    def close(self) -> None:
        """Write what is not written yet."""
        if self._name == "tensorboard":
            self._made.close()
        elif self._name == "wandb":
            self._made.finish()
        else:
            import_module("mlflow").end_run()


def check_trackers(names: Sequence[str]) -> None:
    """Make sure that there are such trackers and that their packages are installed, before hours are spent.

    Raises:
        ConfigError: One is not there.
    """
    for name in names:
        _package(name)


def _package(name: str) -> Any:
    if name not in TRACKERS:
        raise ConfigError(
            f"'{name}' is no tracker; there are {', '.join(TRACKERS)}.{nearest(name, TRACKERS)}"
        )
    try:
        return import_module("torch.utils.tensorboard" if name == "tensorboard" else name)
    except ImportError as error:
        raise ConfigError(f"logging to {name} needs its package: pip install {name}") from error


def make_loggers(
    path: Path, trackers: Sequence[str], run: str, start: int = 0, tracked: Path | None = None
) -> tuple[Logger, ...]:
    """Return the JSON lines at ``path`` and the trackers asked for, whose files go to ``tracked``, else beside it."""
    folder = tracked or path.parent
    return (JsonLines(path, start), *(Tracker(name, folder, run) for name in trackers))
