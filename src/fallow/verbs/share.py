"""One of several processes that label together: it answers its share of a pool into the run of process 0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.config import LabelConfig, build
from fallow.errors import ConfigError
from fallow.record import RunDir, read_json
from fallow.report.words import plural

if TYPE_CHECKING:
    from fallow.data import PixelScale, Source
    from fallow.study.labeling.company import Company


def company_of(settings: LabelConfig) -> Company:
    """Return the processes that torchrun or srun started to label together; this one alone without them.

    Raises:
        ConfigError: There are several and nobody said in which folder they meet.
    """
    from fallow.engine.machine import process_count, process_rank
    from fallow.study.labeling.company import Company

    count = process_count()
    if settings.out is None and count > 1:
        raise ConfigError(
            f"{count} processes label together and need --out, a folder on a disk that they share"
        )
    return Company(settings.out or Path(), process_rank(), count)


def answer_share(company: Company, source: Source, models: Sequence[Any], finished: Path) -> str:
    """Answer what falls to this process once process 0 has read the data, and say how much that was.

    Args:
        company: The processes.
        source: Where images come from.
        models: Objects that name images, beside those that the run's request names.
        finished: A file that is there once all is done.

    Raises:
        RunError: Process 0 has ended.
    """
    answered = 0
    if company.join(finished):
        answered = _answer(company, source, models)
    return f"process {company.rank} of {company.count} named {plural(answered, 'image')}; process 0 writes the labels to '{company.run}'"


def _answer(company: Company, source: Source, objects: Sequence[Any]) -> int:
    from fallow.data import ImageReader, ImageTable
    from fallow.study.data import labeled_ids
    from fallow.study.labeling.parts import answer_all, planned_classes, to_ask
    from fallow.study.outside import open_model
    from fallow.study.rung import ImageSet

    run = RunDir.open(company.run)
    config = build(LabelConfig, read_json(run.path / "request.json")["config"], "the options")
    table = ImageTable.read(run.splits)
    reader = ImageReader(source, table, pixel_scale(run))
    classes = planned_classes(run)
    models = [open_model(model, config, classes) for model in (*config.models, *objects)]
    labeled, pool = (
        ImageSet(ids, table.column("pixel_hash", ids), reader.read)
        for ids in (labeled_ids(table), tuple(table.ids("unlabeled")))
    )
    return answer_all(to_ask(models, labeled, pool, run), company)


def pixel_scale(run: RunDir) -> PixelScale | None:
    """Return how images of more than 8 bits were decoded in a run."""
    from fallow.data import PixelScale

    found = read_json(run.audit).get("pixel_scale")
    return PixelScale(*found) if found else None
