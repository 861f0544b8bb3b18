"""``fallow suggest``: which images to label next."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.config.suggest import SuggestConfig
from fallow.record import write_json
from fallow.record.next_labels import Suggestions
from fallow.record.rundir import write_bytes
from fallow.types import JsonObject
from fallow.verbs.one_go import OneGo, one_go
from fallow.verbs.runs import Show

if TYPE_CHECKING:
    from fallow.study import RungContext

_SIDE = 224
"""Longer side of a picture on the page, in pixels: twice what is seen."""


class Suggested:
    """What to label next, and the folder that holds it as a table, as tasks and as a page of pictures.

    Attributes:
        path: The folder.
        found: The suggestions with their reasons.
    """

    def __init__(self, path: Path, found: Suggestions) -> None:
        self.path, self.found = path, found

    @property
    def paths(self) -> list[str]:
        """The images to label, the most useful first, relative to the data."""
        return [one.path for one in self.found.items]

    @property
    def page(self) -> Path:
        """The page of pictures."""
        return self.path / "suggest.html"

    def to_json(self) -> JsonObject:
        """Return all suggestions and where they are written."""
        return {**self.found.to_json(), "run": str(self.path)}

    def screen(self) -> str:
        """Return the last screen for a terminal."""
        from fallow.report.suggest_page import last_screen

        return last_screen(self.found, self.path)

    def __repr__(self) -> str:
        return f"Suggested({str(self.path)!r}: {self.found.sentence})"


def suggest(
    data: Any,
    *,
    unlabeled: Any = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    show: Show = "auto",
    from_process_start: bool = False,
    **options: Any,
) -> Suggested:
    """Say which images to label next: typical ones of which the model is unsure, all of different kinds.

    Needs no label at all: a flat folder of images is enough to begin with. Never suggests a near duplicate of an image that
    is labeled or suggested, nor one that looks like none of the others. Writes `suggest.csv`, tasks for Label Studio and a
    page of pictures.

    Args:
        data: Folder, CSV, arrays, or a torch ``Dataset``.
        unlabeled: More images without labels, for arrays and data sets.
        config: YAML file with any of the options.
        set: Dotted keys to pin, over config and options.
        show: ``auto``: a bar on a terminal; ``lines``, ``nothing``: none.
        from_process_start: Let the budget count from the start of the process, as the command line does.
        **options: Fields of `fallow.config.suggest.SuggestConfig`: ``n``, ``budget``, ``out``, ``seed`` and so on.

    Returns:
        The suggestions, the most useful first.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    with one_go(
        "suggest",
        SuggestConfig,
        data,
        options,
        config=config,
        pinned=set,
        show=show,
        from_process_start=from_process_start,
    ) as work:
        return _suggest(data, unlabeled, work)


def _suggest(data: Any, unlabeled: Any, work: OneGo[SuggestConfig]) -> Suggested:
    from fallow.data import check_images
    from fallow.report.suggest_page import MOST, write_suggest_page
    from fallow.study.suggesting import choose, look, tell

    ctx, notes = work.context(data, unlabeled, check_images)
    if ctx.data.pool_ids:
        pool = look(ctx)
        found = tell(ctx, pool, choose(ctx, pool, work.config.n), work.config, work.named)
    else:
        nothing = "There is nothing to suggest: every image is labeled."
        found = Suggestions(work.named, work.config.seed, ctx.data.counts, work.config.n, (), nothing)
    found = replace(found, notes=(*notes, *found.notes), seconds=round(work.clock.elapsed, 1))
    out = work.run.path
    write_bytes(out / "suggest.csv", _table(found).encode(errors="surrogateescape"))
    _write_tasks(out, ctx, found)
    write_json(out / "suggest.json", found.to_json())
    write_suggest_page(out / "suggest.html", found, _pictures(ctx, [one.path for one in found.items[:MOST]]))
    return Suggested(out, found)


def _table(found: Suggestions) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["path", "reason", "score", "cluster"])
    lines.writerows([one.path, one.reason, one.score, one.cluster] for one in found.items)
    return text.getvalue()


def _write_tasks(out: Path, ctx: RungContext, found: Suggestions) -> None:
    """Write what Label Studio asks a person, each with what the image is taken for where that is known."""
    from fallow.export.labels.label_studio import Asked, write_tasks

    source = ctx.data.audit.source
    asked = []
    places = ctx.data.table.column("uri", [one.path for one in found.items])
    for one, place in zip(found.items, places, strict=True):
        file = source.file(place)
        address = one.path if file is None else str(file.absolute())
        said: JsonObject = {
            "path": one.path,
            "reason": one.reason,
            "score": one.score,
            "cluster": one.cluster,
        }
        asked.append(Asked(address, said, one.guess, one.confidence))
    write_tasks(out, asked, ctx.data.classes)


def _pictures(ctx: RungContext, paths: Sequence[str]) -> list[bytes | None]:
    from fallow.report import picture

    made: list[bytes | None] = []
    for number, path in enumerate(paths):
        ctx.progress("pictures", number, len(paths))
        made.append(picture(ctx.data.reader.read, path, _SIDE))
    return made
