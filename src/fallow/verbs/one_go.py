"""What verbs share that look at frozen vectors once and leave a page: nothing to resume, for vectors are in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fallow.config import build
from fallow.config.forecast import FrozenConfig
from fallow.record import RunDir, process_age
from fallow.types import Progress
from fallow.verbs.runs import Show, asked_for, check_show, open_run, source_of
from fallow.verbs.watch import Watching

if TYPE_CHECKING:
    from fallow.data import Audit
    from fallow.study import Clock, RungContext

C = TypeVar("C", bound=FrozenConfig)


@dataclass(frozen=True)
class OneGo(Generic[C]):
    """A run at work.

    Attributes:
        run: Its folder.
        config: What was asked for.
        clock: The budget.
        named: The data as the user named them.
        progress: Who watches.
    """

    run: RunDir
    config: C
    clock: Clock
    named: str
    progress: Progress

    def context(
        self, data: Any, unlabeled: Any, check: Callable[[Audit], None]
    ) -> tuple[RungContext, list[str]]:
        """Return what the cheap rungs look at, and a list of what a person should know, which grows.

        Args:
            data: Folder, CSV, arrays, or a data set.
            unlabeled: More images without labels, for arrays and data sets.
            check: Raises a `DataError` where the audit found too little.
        """
        from fallow.study.prepare import frozen_context

        notes: list[str] = []
        source = source_of(data, {"unlabeled": unlabeled})
        ctx = frozen_context(
            source, self.config, self.clock, check=check, tell=notes.append, progress=self.progress
        )
        return ctx, notes


@contextmanager
def one_go(
    verb: str,
    model: type[C],
    data: Any,
    options: Mapping[str, Any],
    *,
    config: Any,
    pinned: Mapping[str, Any] | None,
    show: Show,
    from_process_start: bool,
) -> Iterator[OneGo[C]]:
    """Make the run's folder and yield what the verb works with; a run that ends early leaves no folder behind.

    Raises:
        ConfigError: Something that was asked for is wrong.
        RunError: The folder cannot be made, or is not empty.
    """
    from fallow.study import Clock

    check_show(show)
    already = process_age() if from_process_start else 0.0
    run, request = open_run(verb, model, data, asked_for(model, config, options, pinned), resume=False)
    with whole_or_nothing(run), Watching(enabled=show == "auto") as watching:
        settings = build(model, request["config"], "the options")
        yield OneGo(run, settings, Clock(settings.seconds, already), str(request["data"]), watching)


@contextmanager
def whole_or_nothing(run: RunDir | None) -> Iterator[None]:
    """Leave no folder behind where the work in it ended early, and release it in any case.

    Args:
        run: The folder; None: nothing is written.

    Raises:
        KeyboardInterrupt: It was stopped; the sentence says that vectors are kept.
    """
    try:
        yield
    except BaseException as error:
        if run is not None:
            shutil.rmtree(run.path, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(
                "stopped; vectors that were computed are kept, so that the same command goes on from them"
            ) from None
        raise
    finally:
        if run is not None:
            run.release()
