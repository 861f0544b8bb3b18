"""``fallow forecast``: what more labels would bring, before anybody pays for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fallow.config.forecast import ForecastConfig
from fallow.record import write_json
from fallow.record.next_labels import Forecast
from fallow.types import JsonObject
from fallow.verbs.one_go import OneGo, one_go
from fallow.verbs.runs import Show


class Foreseen:
    """A forecast and the folder that holds its page and its figures.

    Attributes:
        path: The folder.
        found: All figures.
    """

    def __init__(self, path: Path, found: Forecast) -> None:
        self.path, self.found = path, found

    @property
    def sentence(self) -> str:
        """What more labels would bring, in a sentence."""
        return self.found.sentence

    @property
    def page(self) -> Path:
        """The page with the learning curves."""
        return self.path / "forecast.html"

    def to_json(self) -> JsonObject:
        """Return the content of ``forecast.json`` and where it is."""
        return {**self.found.to_json(), "run": str(self.path)}

    def screen(self) -> str:
        """Return the last screen for a terminal."""
        from fallow.report.forecast_page import last_screen

        return last_screen(self.found, self.page)

    def __repr__(self) -> str:
        return f"Foreseen({str(self.path)!r}: {self.sentence})"


def forecast(
    data: Any,
    *,
    unlabeled: Any = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    show: Show = "auto",
    from_process_start: bool = False,
    **options: Any,
) -> Foreseen:
    """Say what more labels would bring: the error now, with twice and four times the labels, and how sure that is.

    Fits the two cheap models of `fallow train` (on the labels alone, and with the unlabeled images) on parts of your
    labels, scores them on labels that took no part, and draws the learning curve on, with an interval that should hold the
    truth four times in five. No network is trained and the test split is not looked at.

    Args:
        data: Folder, CSV, ``(images, labels)`` arrays, or a torch ``Dataset``.
        unlabeled: More images without labels, for arrays and data sets.
        config: YAML file with any of the options.
        set: Dotted keys to pin, over config and options.
        show: ``auto``: a bar on a terminal; ``lines``, ``nothing``: none.
        from_process_start: Let the budget count from the start of the process, as the command line does.
        **options: Fields of `fallow.config.forecast.ForecastConfig`: ``more``, ``price_per_label``, ``budget``, ``out``,
            ``seed`` and so on.

    Returns:
        The forecast. With too few labels it holds one sentence that says so, and nothing else.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    with one_go(
        "forecast",
        ForecastConfig,
        data,
        options,
        config=config,
        pinned=set,
        show=show,
        from_process_start=from_process_start,
    ) as work:
        return _forecast(data, unlabeled, work)


def _forecast(data: Any, unlabeled: Any, work: OneGo[ForecastConfig]) -> Foreseen:
    from fallow.data import check_trainable
    from fallow.report.forecast_page import write_forecast_page
    from fallow.study.forecasting import forecast_curves, tell, too_little

    ctx, notes = work.context(data, unlabeled, check_trainable)
    why_not = too_little(ctx)
    if why_not:
        found = Forecast(work.named, work.config.seed, ctx.data.counts, why_not)
    else:
        found = tell(ctx, forecast_curves(ctx), work.config, work.named)
    found = replace(found, notes=tuple(notes), seconds=round(work.clock.elapsed, 1))
    write_json(work.run.path / "forecast.json", found.to_json())
    write_forecast_page(work.run.path / "forecast.html", found)
    return Foreseen(work.run.path, found)
