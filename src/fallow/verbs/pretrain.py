"""``fallow pretrain``: a better backbone from images alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.config import PretrainConfig, parse_duration, read_config
from fallow.errors import RunError
from fallow.record import DecisionLog, Interval, RunDir, read_json
from fallow.record.pretrained import PretrainRecord
from fallow.types import JsonObject
from fallow.verbs.runs import Call, Show, asked_for, own_backbone

if TYPE_CHECKING:
    from torch import nn

    from fallow.models import Backbone


class Pretrained:
    """A finished pretraining run.

    Attributes:
        run: The run directory.
        record: All figures, as in ``pretrain.json``.
    """

    def __init__(self, run: RunDir, record: PretrainRecord) -> None:
        self.run, self.record = run, record

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.run.path

    @property
    def model(self) -> Path:
        """The folder with the backbone: the better of start and end by the evidence."""
        path: Path = self.run.model
        return path

    @property
    def report(self) -> Path:
        """The HTML report."""
        path: Path = self.run.report
        return path

    @property
    def verdict(self) -> str:
        """The sentence that says whether the features are better."""
        return self.record.verdict

    @property
    def difference(self) -> Interval | None:
        """Paired difference of a linear probe's accuracy, after less before; None without enough labels."""
        return self.record.difference

    @property
    def decisions(self) -> DecisionLog:
        """Every automatic value with its rule and evidence."""
        return DecisionLog.from_json(read_json(self.run.decisions))

    def backbone(self) -> Backbone:
        """Return the backbone in ``model/``, frozen; its ``module`` is a torch module.

        Raises:
            ConfigError: It is a network of your own, which only its code can rebuild.
        """
        from fallow.models import load_backbone

        return load_backbone(str(self.path))

    def to_json(self) -> JsonObject:
        """Return the content of ``pretrain.json`` and where the run is."""
        return {**self.record.to_json(), "run": str(self.path)}

    def screen(self) -> str:
        """Return the last screen for a terminal."""
        from fallow.report import pretrain_screen

        budget = parse_duration(read_config(self.run.config)["budget"])
        data = read_json(self.path / "request.json")["data"]
        return pretrain_screen(self.record, data=data, run=self.path, budget_seconds=budget)

    def __repr__(self) -> str:
        return f"Pretrained({str(self.path)!r}: {self.verdict})"


def pretrain(
    data: Any,
    *,
    unlabeled: Any = None,
    val: Any = None,
    test: Any = None,
    model: nn.Module | Backbone | None = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    resume: bool = False,
    show: Show = "auto",
    from_process_start: bool = False,
    **options: Any,
) -> Pretrained:
    """Make a better backbone of images alone, and say whether it is better.

    A network learns which views belong to the same image; no label is needed. Where there are labels, some of them are held
    out and say at the end, with an interval, whether a linear probe on the features got better; without any that cannot be
    decided, and it is said. What leaves is a backbone in the format that timm loads, and `fallow train DATA --backbone RUN`
    starts from it.

    Args:
        data: Folder (class folders, splits, or just images), CSV, arrays ``(images, labels)``, or a torch ``Dataset``.
        unlabeled: More images without labels, for arrays and data sets.
        val: Validation images with labels, for arrays and data sets: they judge.
        test: Test images, for arrays and data sets: they are not touched.
        model: Your own network: a module whose output for a float batch (n, 3, s, s) is the feature. It is copied; it is fed
            ImageNet-normalized images of ``network={"size": s}`` (160).
        config: YAML file with any of the options.
        set: Dotted keys to pin, over config and options.
        resume: Go on with the run in ``out``.
        show: What is told on stderr while it runs. ``auto``: a picture on a terminal, elsewhere a plain line for each thing
            that is finished; ``lines``: those lines everywhere; ``nothing``.
        from_process_start: Let the budget count from the start of the process, as the command line does.
        **options: Fields of `fallow.config.PretrainConfig`: ``budget``, ``out``, ``method``, ``seed``, ``offline``,
            ``network={"backbone": "resnet18"}`` and so on. On the command line the fields of ``network`` are options of
            their own.

    Returns:
        The finished run.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    others = {"unlabeled": unlabeled, "val": val, "test": test}
    objects = {"model": [] if model is None else [model]}
    call = Call("pretrain", PretrainConfig, data, others, resume, show, from_process_start, _left, objects)
    given = asked_for(PretrainConfig, config, options, set)
    run, request = call.open(given)
    if resume and run.pretrained.is_file():
        run.release()
        return load_pretrained(run.path)
    with call.work(run, request) as work:
        from fallow.study.pretraining import Pretraining

        own = own_backbone(model, work.config.network.size, 'network={"backbone": "resnet18"}')
        job = Pretraining(
            work.source, work.config, run, work.clock, own=own, screen=work.screen, named=work.named
        )
        return Pretrained(run, job.do())


def _left(run: RunDir, where: str) -> str:
    """Say what a run that was stopped has left."""
    return f"what was learned is kept in {where}"


def load_pretrained(run: str | Path) -> Pretrained:
    """Load a finished pretraining run by its directory.

    Raises:
        RunError: The directory is no such run, or the run was stopped before its end.
    """
    directory = RunDir.open(Path(run))
    if not directory.pretrained.is_file():
        raise RunError(
            f"'{run}' is no finished pretraining run (no pretrain.json): go on with  fallow pretrain DATA --out {run} --resume"
        )
    return Pretrained(directory, PretrainRecord.from_json(read_json(directory.pretrained)))
