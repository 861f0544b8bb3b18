"""``fallow label``: labels for the unlabeled images, and how good they are, for anybody's training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.config import LabelConfig, build
from fallow.errors import ConfigError, RunError
from fallow.record import RunDir, read_json, write_json
from fallow.record.labels import LabelSummary, PoolLabels
from fallow.types import JsonObject
from fallow.verbs.models import names_and_objects
from fallow.verbs.runs import Call, Show, Work, asked_for, check_alone, source_of
from fallow.verbs.share import answer_share, company_of, pixel_scale

if TYPE_CHECKING:
    import pyarrow as pa

    from fallow.export.labels import LabelSet
    from fallow.export.labels.dataset import LabelDataset, Take, Targets
    from fallow.study.labeling.company import Company

_SUMMARY, _POOL, _PAGE = "label.json", "pool.parquet", "labels.html"


class Labels:
    """The labels of a pool.

    Attributes:
        run: The folder that holds them.
        summary: How many, how good, and why: the content of ``label.json``.
        labels: What is said of each unlabeled image, beside the labels given.
    """

    def __init__(self, run: RunDir, summary: LabelSummary, labels: LabelSet) -> None:
        self.run, self.summary, self.labels = run, summary, labels

    @property
    def path(self) -> Path:
        """The folder that holds them."""
        return self.run.path

    @property
    def report(self) -> Path:
        """The page of pictures: accepted, doubtful, foreign."""
        return self.path / _PAGE

    @property
    def pool(self) -> PoolLabels:
        """Label, probability, weight, verdict, agreement and ood_score of each unlabeled image, as arrays."""
        return self.labels.pool

    def table(self, soft: bool = False) -> pa.Table:
        """Return the columns of ``labels.csv`` as an arrow table (``.to_pandas()`` makes a frame).

        Args:
            soft: Add the probabilities of all classes.
        """
        return self.pool.table(soft)

    def dataset(
        self,
        transform: Callable[[Any], Any] | None = None,
        *,
        targets: Targets = "hard",
        unlabeled_weight: float = 1.0,
        take: Take = "accept",
    ) -> LabelDataset:
        """Return a torch ``Dataset`` of ``(image, label, weight)``: the labels given, then the accepted ones.

        Args:
            transform: Called with the uint8 (H, W, 3) NumPy pixels. None: a float32 tensor (3, H, W) in 0..1.
            targets: ``hard`` yields class positions (int64), ``soft`` probabilities (float32, (classes,)).
            unlabeled_weight: Scales the weights of the accepted labels; given labels weigh 1.
            take: ``accept``, or ``all``: doubtful images, too, weighted by their probability.
        """
        from fallow.export.labels.dataset import LabelDataset

        return LabelDataset(
            self.labels, transform, targets=targets, unlabeled_weight=unlabeled_weight, take=take
        )

    def write(self, *formats: str, files: str = "link") -> list[Path]:
        """Write more formats into the folder and return what was written: see ``--format``.

        Raises:
            ConfigError: There is no such format.
        """
        from fallow.export.labels import write_labels

        asked = build(LabelConfig, {"format": ",".join(formats), "files": files}, "the options")
        return write_labels(self.labels, self.path, asked.formats, asked.files)

    def to_json(self) -> JsonObject:
        """Return the content of ``label.json`` and where it is."""
        return {**self.summary.to_json(), "run": str(self.path)}

    def screen(self) -> str:
        """Return the last screen for a terminal."""
        from fallow.report.label_page import label_screen

        return label_screen(self.summary, self.path, self.report)

    def __repr__(self) -> str:
        return f"Labels({str(self.path)!r}: {self.summary.sentence})"


class SharedLabels(Labels):
    """The labels as a process above 0 sees them that has answered its share: loaded, when they are asked for, once all is done.

    Attributes:
        aside: What this process did, a line for a person; the labels themselves are shown by process 0.
    """

    def __init__(self, run: RunDir, aside: str, load: Callable[[], Labels]) -> None:
        self.run, self.aside, self._load = run, aside, load

    def __getattr__(self, name: str) -> Any:
        if name not in ("summary", "labels"):
            raise AttributeError(name)
        made = self._load()
        self.summary, self.labels = made.summary, made.labels
        return getattr(made, name)

    def __repr__(self) -> str:
        return f"SharedLabels({str(self.path)!r}: {self.aside})"


def label(
    data: Any,
    *,
    model: Any = None,
    unlabeled: Any = None,
    val: Any = None,
    test: Any = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    resume: bool = False,
    show: Show = "auto",
    from_process_start: bool = False,
    **options: Any,
) -> Labels:
    """Label the unlabeled images, and say how many of these labels are right.

    A model names every unlabeled image; how often it is right is measured on labels that it had not seen, and so many of the
    surest labels are accepted that the precision asked for holds. What is doubtful, and what seems to be of no class, is set
    aside for a person. Leaves a folder with labels.csv, label.json and labels.html. Images in test/ are never labeled.

    Args:
        data: Folder, CSV, ``(images, labels)`` arrays, or a torch ``Dataset``.
        model: Who names the images: a run directory, an ONNX file, a timm name, a torch module or function that takes float
            images (n, 3, s, s), ImageNet-normalized, and gives logits or probabilities; or several of them, whose average
            counts. None: a model made in seconds of the labels given.
        unlabeled: More images without labels, for arrays and data sets.
        val: Validation images with labels, for arrays and data sets.
        test: Test images with labels, for arrays and data sets.
        config: YAML file with any of the options.
        set: Dotted keys to pin, over config and options.
        resume: Go on with the folder in ``out``.
        show: What is told on stderr while it runs, as for `fallow.train`.
        from_process_start: Let the budget count from the start of the process, as the command line does.
        **options: Fields of `fallow.config.LabelConfig`: ``precision``, ``coverage``, ``certify``, ``budget``, ``out``, ``format``,
            ``seed`` and so on.

    Returns:
        The labels. With a model, the processes of torchrun or srun share the work: those above 0 get theirs, a `SharedLabels`, when
        they ask for them.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    others = {"unlabeled": unlabeled, "val": val, "test": test}
    names, objects = names_and_objects(model)
    own = {"model": objects}
    call = Call("label", LabelConfig, data, others, resume, show, from_process_start, _left, own)
    asked = {**options, **({"model": ",".join(names)} if names else {})}
    given = asked_for(LabelConfig, config, asked, set)
    settings = build(LabelConfig, given, "the options")
    if settings.rounds > 1 and _models(settings, objects):
        raise ConfigError(
            f"rounds={settings.rounds} goes with the model that is made of your labels, and the one given is not trained again: leave "
            "--model out, or --rounds"
        )
    company = _company(settings, objects, resume)
    if company.rank:
        return _share(company, data, others, objects)
    run, request = call.open(given, alone=False)
    company.run = run.path
    if resume and (run.path / _SUMMARY).is_file():
        run.release()
        return load_labels(run.path, source_of(data, others))
    with (
        call.work(run, request) as work,
        company.leading(),
    ):
        return _label(work, _models(work.config, objects), company)


def _company(settings: LabelConfig, objects: Sequence[Any], resume: bool) -> Company:
    """Return the processes that label together.

    Raises:
        ConfigError: There are several and no model that each could ask, or no folder to meet in.
    """
    request = (settings.out or Path()) / "request.json"
    if resume and request.is_file():  # what was asked for then need not be said again
        settings = settings.model_copy(
            update={"model": settings.model or read_json(request)["config"].get("model", "")}
        )
    if not (objects or set(settings.models) - set(settings.backbones)):
        check_alone("label", "with a model to ask (--model FILE) they would share the work")
    return company_of(settings)


def _share(company: Company, data: Any, others: Mapping[str, Any], objects: Sequence[Any]) -> SharedLabels:
    """Answer what falls to a process above 0."""
    source, finished = source_of(data, others), company.run / _SUMMARY
    aside = answer_share(company, source, objects, finished)

    def load() -> Labels:
        company.wait(finished)
        return load_labels(company.run, source)

    return SharedLabels(RunDir(company.run), aside, load)


def _models(settings: LabelConfig, objects: Sequence[Any]) -> list[Any]:
    """Return the models from elsewhere; none where the cheap rungs label, through which networks ever.

    Raises:
        ConfigError: Networks of timm, which know none of the classes, stand beside models that do.
    """
    outside = [name for name in settings.models if name not in settings.backbones]
    if settings.backbones and (outside or objects):
        known = next(iter([*outside, *(type(one).__name__ for one in objects)]))
        raise ConfigError(
            f"'{settings.backbones[0]}' is no file: a timm model knows none of your classes and cannot vote with '{known}'; give "
            "the path of a run or of an ONNX file, or the timm name alone"
        )
    return [*outside, *objects]


def _left(run: RunDir, where: str) -> str:
    return f"what was computed is kept in {where}"


def _label(work: Work[LabelConfig], models: list[Any], company: Company) -> Labels:
    from dataclasses import replace

    from fallow.export.labels import write_labels
    from fallow.report.label_page import write_label_page
    from fallow.study.labeling.pictures import pictures
    from fallow.study.labeling.session import label_pool

    run, config, screen = work.run, work.config, work.screen
    made = label_pool(
        work.source, config, run, work.clock, models, screen=screen, named=work.named, company=company
    )
    screen.stage("report")
    made.labels.pool.write(run.path / _POOL)
    write_labels(made.labels, run.path, config.formats, config.files)
    shown = pictures(made.labels, config.seed, screen.progress)
    summary = replace(made.summary, seconds=round(work.clock.elapsed, 1))
    write_label_page(run.path / _PAGE, summary, shown, work.named, tuple(made.decisions))
    write_json(run.path / _SUMMARY, summary.to_json())  # the last: where it is, all is there
    return Labels(run, summary, made.labels)


def load_labels(folder: str | Path, data: Any = None) -> Labels:
    """Load labels that `label` wrote, another day.

    Args:
        folder: The folder of the labels.
        data: The data, where it is no path (arrays, a torch ``Dataset``) or lies elsewhere now.

    Raises:
        RunError: The folder holds no labels, or labeling was stopped.
        DataError: The data are gone.
    """
    from fallow.data import ImageReader, ImageTable, open_source
    from fallow.export.labels import label_set

    run = RunDir.open(Path(folder))
    if not (run.path / _SUMMARY).is_file():
        raise RunError(
            f"'{folder}' holds no labels (no {_SUMMARY}): go on with  fallow label DATA --out {folder} --resume"
        )
    summary = LabelSummary.from_json(read_json(run.path / _SUMMARY))
    request = read_json(run.path / "request.json")
    if data is None and "path" not in request:
        raise RunError(f"'{folder}' was made from a {request['data']}: give it again as data=")
    source = open_source(request["path"] if data is None else data)
    table = ImageTable.read(run.splits)
    reader = ImageReader(source, table, pixel_scale(run))
    return Labels(run, summary, label_set(PoolLabels.read(run.path / _POOL), table, source, reader.read))
