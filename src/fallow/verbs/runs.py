"""What verbs that make a run share: its folder, what was asked of it, going on with it, and what a stop leaves."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from fallow.config import RunConfig, build, dump_config, merge, nest, read_config
from fallow.errors import ConfigError, DataError, RunError, WeightsError
from fallow.record import RunDir, elapsed_before, process_age, read_json, write_json
from fallow.record.rundir import LOCK, write_bytes

if TYPE_CHECKING:
    from torch import nn

    from fallow.data import Source
    from fallow.models import Backbone
    from fallow.report import LiveLadder
    from fallow.study import Clock

C = TypeVar("C", bound=RunConfig)
Show = Literal["auto", "lines", "nothing"]
"""What is told on stderr: a picture on a terminal and plain lines elsewhere; plain lines everywhere; nothing."""

_SIZE = 160
"""Side in pixels that a user's own network is fed with where nobody said."""


def check_show(show: str) -> None:
    """Make sure that there is such a way to tell what goes on.

    Raises:
        ConfigError: There is not.
    """
    if show not in get_args(Show):
        raise ConfigError(f"show='{show}' is not known: give {', '.join(get_args(Show))}")


def check_alone(verb: str, unless: str = "") -> None:
    """Make sure that this process is the only one of its run: a run is read, decided and written by one.

    Args:
        verb: The command.
        unless: When several could work together.

    Raises:
        ConfigError: torchrun or srun started several to train together.
    """
    from fallow.engine.machine import process_count

    if (count := process_count()) > 1:
        raise ConfigError(
            f"fallow {verb} works in one process on one device, and {count} were started to train together (torchrun or "
            f"srun): start it without them, or with one process{unless and f'; {unless}'}"
        )


def asked_for(
    model: type[RunConfig],
    config: str | Path | None,
    options: Mapping[str, Any],
    pinned: Mapping[str, Any] | None,
    over: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] = merge,
) -> dict[str, Any]:
    """Return what was asked for, in a file, as options and as dotted keys, each over the one before.

    Raises:
        ConfigError: The file cannot be read, or something in it is wrong: that is said with the file's name.
    """
    written = read_config(Path(config)) if config else {}
    build(model, written, f"'{config}'")
    return over(written, merge(options, nest(pinned or {})))


@dataclass(frozen=True)
class Work(Generic[C]):
    """A run at work.

    Attributes:
        run: Its folder, locked for this process.
        config: What was asked for.
        clock: The budget; what an interrupted run had used of it is used.
        source: Where images come from.
        screen: Who watches.
        named: The data as the user named them.
    """

    run: RunDir
    config: C
    clock: Clock
    source: Source
    screen: LiveLadder
    named: str


@dataclass(frozen=True)
class Call(Generic[C]):
    """How a verb that makes a run was called.

    Attributes:
        verb: The command.
        model: Its config.
        data: What it works on.
        others: More of it, for arrays and data sets: ``unlabeled``, ``val``, ``test``; None where there is none.
        resume: Go on with the run in ``out``.
        show: What is told while it runs.
        from_process_start: Let the budget count from the start of the process.
        left: Says what a run that was stopped has left, from the run and its quoted path.
        objects: What else was given that lives in the memory of this process, by the parameter that takes it: networks, data. No
            config can name it, and a run that goes on needs it again.

    Raises:
        ConfigError: There is no such way to tell what goes on.
    """

    verb: str
    model: type[C]
    data: Any
    others: Mapping[str, Any]
    resume: bool
    show: Show
    from_process_start: bool
    left: Callable[[RunDir, str], str]
    objects: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what is not checked by the config."""
        check_show(self.show)

    def open(self, given: dict[str, Any], *, alone: bool = True) -> tuple[RunDir, dict[str, Any]]:
        """Return the run and what was asked of it, as `open_run` does."""
        kinds = {name: [type(one).__name__ for one in some] for name, some in self.objects.items() if some}
        return open_run(self.verb, self.model, self.data, given, self.resume, alone=alone, objects=kinds)

    @contextmanager
    def work(self, run: RunDir, request: Mapping[str, Any]) -> Iterator[Work[C]]:
        """Yield what the verb works with. Release the run at the end; say how to go on where it is stopped; remove it where nothing
        was computed.

        Args:
            run: From `open`, as is ``request``.
            request: What was asked of it.
        """
        from fallow.report import LiveLadder

        try:
            settings = build(self.model, request["config"], "the options")
            before = elapsed_before(run.path)

            def used() -> float:
                return before + (process_age() if self.from_process_start else 0.0)

            with LiveLadder(
                enabled=self.show == "auto",
                lines=self.show != "nothing",
                budget_seconds=settings.seconds,
                already=used(),
            ) as screen:
                screen.stage(
                    "start"
                )  # the networks' libraries are loaded: seconds, a minute on a busy machine
                from fallow.study import Clock

                clock = Clock(settings.seconds, used())
                source = source_of(self.data, self.others)
                yield Work(run, settings, clock, source, screen, str(request["data"]))
        except BaseException as error:
            if not self.resume:
                _clean(run, error)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(_kept(run, self.data, self.verb, self.left)) from None
            raise
        finally:
            run.release()


def _kept(run: RunDir, data: Any, verb: str, left: Callable[[RunDir, str], str]) -> str:
    """Say what a run that was stopped has left, and how to go on."""
    named = shlex.quote(str(data)) if isinstance(data, str | Path) else "DATA"
    where = shlex.quote(str(run.path))
    command = f"fallow {verb} {named} --out {where}"
    if not run.path.is_dir():
        return f"stopped before anything was computed; start again with  {command}"
    return f"stopped; {left(run, where)}; go on with  {command} --resume"


def open_run(
    verb: str,
    model: type[RunConfig],
    data: Any,
    given: dict[str, Any],
    resume: bool,
    *,
    alone: bool = True,
    objects: Mapping[str, Sequence[str]] | None = None,
) -> tuple[RunDir, dict[str, Any]]:
    """Make the run directory, or find the one to go on with, and return what was asked of it.

    Args:
        verb: The command.
        model: Its config.
        data: What it works on.
        given: What was asked for now.
        resume: Go on with the run in ``out``.
        alone: Refuse to be one of several processes.
        objects: Kinds of what was given as objects of Python, by parameter.

    Raises:
        ConfigError: An option is wrong, or differs from those of the run to go on with, or this process is one of several.
        RunError: There is no run to go on with, it is another command's or on other data, or a new one cannot be made.
    """
    settings = build(model, given, "the options")
    if alone:
        check_alone(verb)
    asked = settings.model_dump(mode="json", exclude_unset=True)
    if resume:
        return _going_on(verb, settings, asked, data, objects or {})
    shown = str(data) if isinstance(data, str | Path) else type(data).__name__
    if isinstance(data, str | Path) and not Path(data).exists():
        from fallow.data import open_source

        open_source(data)  # says what is wrong, before a directory is made
    run = RunDir.create(settings.out or fresh_run())
    request = {"verb": verb, "data": shown, "config": asked, "objects": objects or {}}
    if isinstance(data, str | Path):
        request["path"] = str(Path(data).resolve())  # a run may go on from another folder
    try:
        write_json(run.path / "request.json", request)
        write_bytes(run.config, dump_config(settings.model_dump(mode="json")).encode())
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)  # without these two it is no run and could not be resumed
        raise
    return run, request


def _going_on(
    verb: str, settings: RunConfig, asked: dict[str, Any], data: Any, objects: Mapping[str, Sequence[str]]
) -> tuple[RunDir, dict[str, Any]]:
    out = settings.out
    if out is None:
        raise ConfigError("--resume needs --out, the run to go on with")
    if not out.exists():
        raise RunError(f"there is no run '{out}' to go on with: leave --resume out to start it")
    run = RunDir.open(out)
    run.sweep()
    request = read_json(run.path / "request.json")
    by = request.get("verb", "train")
    if by != verb:
        raise RunError(f"the run '{out}' was started by  fallow {by}: go on with that command")
    changed = [
        k for k in asked if k != "out" and merge(request["config"], {k: asked[k]}) != request["config"]
    ]
    if changed:
        raise ConfigError(
            f"--resume goes on with the options of '{out}', and {', '.join(changed)} differs from them: leave it out"
        )
    if isinstance(data, str | Path) and not _same_data(data, request):
        raise ConfigError(
            f"the run '{out}' was started on '{request['data']}', not on '{data}': give the same data"
        )
    before = request.get("objects", {})
    for name in [*before, *(name for name in objects if name not in before)]:
        if list(objects.get(name, ())) != before.get(name, []):
            was = " and ".join(before.get(name, [])) or "nothing"
            raise ConfigError(
                f"the run '{out}' was started with {was} of your program as {name}=, which no file holds: give the same to go on"
            )
    return run, request


def _same_data(data: str | Path, request: dict[str, Any]) -> bool:
    """Say whether ``data`` is what the run was started on, however it is written and wherever it is asked from."""
    return str(data) == request["data"] or str(Path(data).resolve()) == request.get(
        "path", str(Path(request["data"]).resolve())
    )


def fresh_run() -> Path:
    """Return ``runs/<two words>``, the first that is free."""
    from fallow.verbs.names import names

    for name in names():
        path = Path("runs") / name
        if not path.exists():
            return path
    raise RunError("runs/ is full of runs: give a folder with --out")


def source_of(data: Any, others: Mapping[str, Any]) -> Source:
    """Return where images come from; parts of ``others`` that are None are not there.

    Raises:
        DataError: Nothing can be read from it.
    """
    from fallow.data import open_source

    return open_source(data, **{name: part for name, part in others.items() if part is not None})


def with_extra(source: Source, extra: Any) -> Source:
    """Return the data with labeled images of another origin beside them.

    Raises:
        DataError: Nothing can be read from ``extra``.
    """
    from fallow.data import WithExtra, open_source

    return WithExtra(source, open_source(extra))


def own_backbone(model: nn.Module | Backbone | None, size: int | str, instead: str) -> Backbone | None:
    """Make a backbone of the user's network; a plain module is taken to want ImageNet-normalized images.

    Args:
        model: What was handed in.
        size: Side in pixels that was asked for, or ``auto``.
        instead: How a timm model is named.

    Raises:
        ConfigError: It is no network.
    """
    from torch import nn

    from fallow.models import Backbone, from_module
    from fallow.models.backbones import IMAGENET_MEAN, IMAGENET_STD

    if model is None or isinstance(model, Backbone):
        return model
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model= takes a network (a torch Module), not a {type(model).__name__}: a timm model is named by {instead}"
        )
    side = size if isinstance(size, int) else _SIZE
    return from_module(model, size=side, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _clean(run: RunDir, error: BaseException) -> None:
    """Remove a run directory in which nothing has been computed, so that the same command can be given again."""
    made = {"config.yaml", "request.json", "processes", LOCK}
    if isinstance(error, DataError | ConfigError | WeightsError):  # to be mended and given again, not resumed
        made |= {"audit.json", "splits.parquet", "plan.json", "clock.jsonl", "decisions.json", "stages"}
    if not run.path.is_dir() or any(run.path.glob("stages/*/*.safetensors")):
        return
    if {p.name for p in run.path.iterdir()} <= made:
        shutil.rmtree(run.path, ignore_errors=True)
