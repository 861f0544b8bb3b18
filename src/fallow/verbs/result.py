"""What `train` returns and `load` brings back: a run with its model, its figures and its reasons."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.errors import RunError
from fallow.record import DecisionLog, RunDir, StudyResult, Waterfall, read_json
from fallow.types import JsonObject

if TYPE_CHECKING:
    from fallow.export import Deployed
    from fallow.verbs.predict import Prediction


class Result:
    """A finished run.

    Attributes:
        run: The run directory.
        study: All figures, as in ``result.json``.
    """

    def __init__(self, run: RunDir, study: StudyResult) -> None:
        self.run, self.study = run, study

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.run.path

    @property
    def verdict(self) -> str:
        """The sentence that says whether the unlabeled images helped."""
        return self.study.verdict

    @property
    def waterfall(self) -> Waterfall:
        """Error before, error after, rung by rung."""
        return self.study.waterfall

    @property
    def report(self) -> Path:
        """The HTML report."""
        path: Path = self.run.report
        return path

    @property
    def decisions(self) -> DecisionLog:
        """Every automatic value with its rule and evidence."""
        return DecisionLog.from_json(read_json(self.run.decisions))

    @cached_property
    def model(self) -> Deployed:
        """The model as it leaves: classes and probabilities for uint8 images, through ``model/model.onnx``."""
        from fallow.export import load_bundle

        return load_bundle(self.run.model)

    def predict(self, images: str | Path | Iterable[Any]) -> list[Prediction]:
        """Name the class of images: files, folders, globs, or uint8 arrays (H, W, 3).

        Returns:
            One `Prediction` per readable image, in order; unreadable ones carry an ``error``.
        """
        from fallow.verbs.predict import predict_images

        return list(predict_images(self.model, images))

    def to_json(self) -> JsonObject:
        """Return the content of ``result.json`` and where the run is."""
        return {**self.study.to_json(), "run": str(self.path)}

    def screen(self) -> str:
        """Return the last screen for a terminal."""
        from fallow.config import read_config
        from fallow.report import last_screen

        request = read_json(self.run.path / "request.json")
        config = read_config(self.run.config)
        return last_screen(
            self.study,
            data=request["data"],
            report=self.report,
            model=self.run.model / "model.onnx",
            budget_seconds=_seconds(config["budget"]),
        )

    def __repr__(self) -> str:
        return f"Result({str(self.path)!r}: {self.verdict})"


def _seconds(budget: str) -> float:
    from fallow.config import parse_duration

    return parse_duration(budget)


def load(run: str | Path) -> Result:
    """Load a finished run by its directory.

    Raises:
        RunError: The directory is no run, or the run was stopped before its result was written.
    """
    directory = RunDir.open(Path(run))
    if directory.pretrained.is_file():
        raise RunError(
            f"'{run}' is a run of  fallow pretrain: open it with fallow.load_pretrained, or train a model with it by  fallow "
            f"train DATA --backbone {run}"
        )
    if not directory.result.is_file():
        raise RunError(
            f"the run '{run}' has not finished (no result.json): go on with  fallow train DATA --out {run} --resume"
        )
    return Result(directory, StudyResult.from_json(read_json(directory.result)))
