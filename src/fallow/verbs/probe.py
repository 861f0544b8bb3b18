"""Features judged: what can be read from what a backbone says of labeled images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.config import build
from fallow.config.evaluate import FeaturesConfig
from fallow.errors import ConfigError, RunError
from fallow.record import Interval, RunDir, write_json
from fallow.record.probed import ProbeRecord
from fallow.types import JsonObject
from fallow.verbs.one_go import whole_or_nothing
from fallow.verbs.runs import Show, check_show, own_backbone, source_of
from fallow.verbs.watch import Watching

if TYPE_CHECKING:
    from torch import nn

    from fallow.models import Backbone


class Probed:
    """What was measured of features.

    Attributes:
        record: All figures, as in ``probe.json``.
        path: The folder with ``probe.json`` and ``probe.html``; None where none was asked for.
    """

    def __init__(self, record: ProbeRecord, path: Path | None = None) -> None:
        self.record, self.path = record, path

    def __getitem__(self, name: str) -> Interval:
        """Return a figure with its interval by its key: ``probed["linear"].value``."""
        return self.record.figure(name).value

    def difference(self, name: str) -> Interval | None:
        """Return the paired difference to the other backbone of a figure; None without another."""
        return self.record.figure(name).difference

    def to_json(self) -> JsonObject:
        """Return the content of ``probe.json``."""
        return self.record.to_json()

    def screen(self) -> str:
        """Return the figures for a terminal."""
        from fallow.report.probe_page import probe_screen

        return probe_screen(self.record, self.path)

    def __repr__(self) -> str:
        return f"Probed({self.record.network.name!r}: {self.record.sentence})"


def probe(
    model: str | Path | nn.Module | Backbone,
    data: Any,
    *,
    protocols: str = "quick",
    against: str | Path | nn.Module | Backbone | None = None,
    val: Any = None,
    test: Any = None,
    show: Show = "auto",
    **options: Any,
) -> Probed:
    """Judge the features of a backbone on labeled images, or of two side by side.

    With a test split heads learn on the other labels and are judged there; without one on folds, dealt several times. Each
    figure comes with its spread over draws and a 95 % interval. Two backbones get the same images, folds and draws, so that
    their difference is told image by image.

    Args:
        model: timm model name, ``pixels``, the folder of a run of ``fallow.pretrain`` or ``fallow.train``, or your own network:
            a module whose output for a float batch (n, 3, s, s) is the feature, fed ImageNet-normalized images of ``size``
            (160).
        data: Folder, CSV, arrays ``(images, labels)``, or a torch ``Dataset``.
        protocols: Comma separated: ``knn``, ``linear``, ``low-shot``, ``clusters``, ``retrieval`` (those five are ``quick``),
            ``svm``, ``mlp``, ``finetune``; ``all``.
        against: Another backbone, named like the first.
        val: Validation images with labels, for arrays and data sets.
        test: Test images with labels, for arrays and data sets: they are judged.
        show: ``auto``: a bar on a terminal; ``lines``, ``nothing``: none.
        **options: Other fields of `fallow.config.evaluate.FeaturesConfig`: ``split``, ``size``, ``weights``, ``images``,
            ``seed``, ``out`` and so on.

    Returns:
        The figures, by their keys: ``probed["linear"].value``.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    given = {**options, "probe": protocols}
    if isinstance(against, str | Path):
        given["against"] = str(against)
    return probe_features(model, data, given, against=against, others={"val": val, "test": test}, show=show)


def probe_features(
    model: Any,
    data: Any,
    given: Mapping[str, Any],
    *,
    against: Any = None,
    others: Mapping[str, Any] | None = None,
    show: Show = "auto",
) -> Probed:
    """Judge features as `probe` does, with all options as one mapping."""
    check_show(show)
    config = build(FeaturesConfig, given, "the options")
    run = RunDir.create(config.out) if config.out is not None else None
    with whole_or_nothing(run), Watching(enabled=show == "auto") as watching:
        from fallow.study.probing import Probing

        job = Probing(
            source_of(data, others or {}),
            str(data) if isinstance(data, str | Path) else type(data).__name__,
            _named(model, config, config.weights),
            None if against is None and config.against is None else _named(against or config.against, config),
            config,
            watching,
            _met,
        )
        record = job.do()
        if run is not None:
            _write(run.path, record)
    return Probed(record, config.out)


def trained_on(model: Path) -> set[str] | None:
    """Return the hashes of the files that the model was trained on, where its run is at hand."""
    from fallow.data import ImageTable

    for run in (model, model.absolute().parent):
        if (run / "splits.parquet").is_file() and (run / "model" / "model.json").is_file():
            try:
                images = ImageTable.read(run / "splits.parquet").images
            except RunError:  # an old or damaged list is no reason not to measure
                return None
            pairs = zip(images["byte_hash"].to_pylist(), images["split"].to_pylist(), strict=True)
            return {hashed for hashed, split in pairs if split != "test"}
    return None


def _met(name: str, hashes: list[str]) -> int | None:
    known = trained_on(Path(name))
    return None if known is None else sum(one in known for one in hashes)


def _named(model: Any, config: FeaturesConfig, weights: Path | None = None) -> Any:
    """Return what is judged as it was asked for.

    Raises:
        ConfigError: It is no name and no network.
    """
    from fallow.study.probing import Named

    if isinstance(model, str | Path):
        return Named(str(model), weights=weights, offline=config.offline, seed=config.seed)
    own = own_backbone(model, config.size, "its name as text")
    if own is None:
        raise ConfigError("a backbone is missing: give a timm model name, the folder of a run, or a network")
    return Named(own.name, own=own, offline=config.offline)


def _write(folder: Path, record: ProbeRecord) -> None:
    from fallow.report.probe_page import FIGURES, PAGE, write_probe_page

    write_json(folder / FIGURES, record.to_json())
    write_probe_page(folder / PAGE, record)
