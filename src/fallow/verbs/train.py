"""``fallow train``: the whole job."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fallow.config import TrainConfig, build, dump_config, merge, nest, read_config
from fallow.errors import ConfigError, DataError, RunError, WeightsError
from fallow.record import RunDir, read_json, write_json
from fallow.record.rundir import LOCK, write_bytes
from fallow.verbs.result import Result, load

if TYPE_CHECKING:
    from torch import nn

    from fallow.models import Backbone

Show = Literal["auto", "lines", "nothing"]


def train(
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
) -> Result:
    """Train the best model that a few labeled and many unlabeled images allow, and prove it.

    Tries one rung after the other, as far as the budget reaches: a linear probe on the labels alone, labels spread over
    the unlabeled images, then networks trained on the labels and on all images; measures each on the same held-out
    labels, keeps what wins, and says so when labels alone were better. Leaves a directory with the model (ONNX and
    safetensors), a report and every figure.

    Args:
        data: Folder, CSV, ``(images, labels)`` arrays, or a torch ``Dataset``.
        unlabeled: More images without labels, for arrays and data sets.
        val: Validation images with labels, for arrays and data sets.
        test: Test images with labels, for arrays and data sets.
        model: Your own network as the backbone: a module whose output for a float batch (n, 3, s, s) is the feature.
            It is fed ImageNet-normalized images of ``embed={"size": s}`` (160); `fallow.models.from_module` makes a
            backbone with another normalization or a feature hook.
        config: YAML file with any of the options.
        set: Dotted keys to pin, over config and options.
        resume: Go on with the run in ``out``.
        show: What is told on stderr while it runs. ``auto``: a picture on a terminal, elsewhere a plain line for each
            thing that is finished; ``lines``: those lines everywhere; ``nothing``.
        from_process_start: Let the budget count from the start of the process, as the command line does.
        **options: Fields of `fallow.config.TrainConfig`: ``budget``, ``out``, ``rungs``, ``method``, ``seed``,
            ``offline``, ``embed={"views": "flip"}`` and so on. On the command line the fields of ``embed`` are options
            of their own.

    Returns:
        The finished run.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    from fallow.study import Clock, elapsed_before, process_age

    if show not in get_args(Show):
        raise ConfigError(f"show='{show}' is not known: give {', '.join(get_args(Show))}")
    already = process_age() if from_process_start else 0.0
    written = read_config(Path(config)) if config else {}
    build(TrainConfig, written, f"'{config}'")  # what is wrong in the file is said with the file's name
    given = _over(written, merge(options, nest(set or {})))
    run, request = _directory(data, given, resume)
    if resume and run.result.is_file():
        run.release()
        return load(run.path)
    settings = build(TrainConfig, request["config"], "the options")
    # What an interrupted run had used of the budget is used: a run that goes on has the rest.
    clock = Clock(settings.seconds, already + elapsed_before(run.path))
    try:
        return _run(
            data, {"unlabeled": unlabeled, "val": val, "test": test}, model, settings, run, clock, show
        )
    except BaseException as error:
        if not resume:
            _clean(run, error)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(_kept(run, data)) from None
        raise
    finally:
        run.release()


def _over(written: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Lay what is asked for over a config file; a value that is asked for now is no longer one that was searched."""
    given = merge(written, asked)
    searched = (given.get("replay") or {}).get("searched") or {}
    for key in list(searched):
        section, _, name = key.partition(".")
        if name in (asked.get(section) or {}):
            given = merge(given, {"replay": {"searched": None}})
            given["replay"]["searched"] = {k: v for k, v in searched.items() if k != key}
            searched = given["replay"]["searched"]
    return given


def _kept(run: RunDir, data: Any) -> str:
    """Say what a run that was stopped has left, and how to go on."""
    named = shlex.quote(str(data)) if isinstance(data, str | Path) else "DATA"
    where = shlex.quote(str(run.path))
    if not run.path.is_dir():
        return f"stopped before anything was computed; start again with  fallow train {named} --out {where}"
    best = run.kept_rung()
    left = (
        f"{where}/model holds the best finished rung ({best}) and can be used"
        if best
        else f"no rung was finished yet, and what was computed is kept in {where}"
    )
    return f"stopped; {left}; go on with  fallow train {named} --out {where} --resume"


def _directory(data: Any, given: dict[str, Any], resume: bool) -> tuple[RunDir, dict[str, Any]]:
    """Make the run directory, or find the one to go on with, and return what was asked of it."""
    settings = build(TrainConfig, given, "the options")
    asked = settings.model_dump(mode="json", exclude_unset=True)
    out = settings.out
    if resume:
        if out is None:
            raise ConfigError("--resume needs --out, the run to go on with")
        if not out.exists():
            raise RunError(f"there is no run '{out}' to go on with: leave --resume out to start it")
        run = RunDir.open(out)
        run.sweep()
        request = read_json(run.path / "request.json")
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
        return run, request
    shown = str(data) if isinstance(data, str | Path) else type(data).__name__
    if isinstance(data, str | Path) and not Path(data).exists():
        from fallow.data import open_source

        open_source(data)  # says what is wrong, before a directory is made
    run = RunDir.create(out or _fresh(settings.seed))
    request = {"data": shown, "config": asked}
    if isinstance(data, str | Path):
        request["path"] = str(Path(data).resolve())  # a run may go on from another folder
    try:
        write_json(run.path / "request.json", request)
        write_bytes(run.config, dump_config(settings.model_dump(mode="json")).encode())
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)  # without these two it is no run and could not be resumed
        raise
    return run, request


def _same_data(data: str | Path, request: dict[str, Any]) -> bool:
    """Say whether ``data`` is what the run was started on, however it is written and wherever it is asked from."""
    return str(data) == request["data"] or str(Path(data).resolve()) == request.get(
        "path", str(Path(request["data"]).resolve())
    )


def _fresh(seed: int) -> Path:
    """Return ``runs/<two words>``, the first that is free."""
    from fallow.verbs.names import names

    for name in names():
        path = Path("runs") / name
        if not path.exists():
            return path
    raise RunError("runs/ is full of runs: give a folder with --out")


def _run(
    data: Any,
    others: dict[str, Any],
    model: nn.Module | Backbone | None,
    settings: TrainConfig,
    run: RunDir,
    clock: Any,
    show: Show,
) -> Result:
    from fallow.data import open_source
    from fallow.report import LiveLadder
    from fallow.study import Study

    own = _backbone(model, settings)
    screen = LiveLadder(enabled=show == "auto", lines=show != "nothing", budget_seconds=settings.seconds)
    try:
        source = open_source(data, **{k: v for k, v in others.items() if v is not None})
        named = str(read_json(run.path / "request.json")["data"])
        study = Study(source, settings, run, clock, own=own, screen=screen, named=named)
        result = study.climb()
    finally:
        screen.close()
    return Result(run, result)


def _backbone(model: nn.Module | Backbone | None, settings: TrainConfig) -> Backbone | None:
    """Make a backbone of the user's network; a plain module is taken to want ImageNet-normalized images."""
    from torch import nn

    from fallow.models import Backbone, from_module

    if model is None or isinstance(model, Backbone):
        return model
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model= takes a network (a torch Module), not a {type(model).__name__}: a timm model is named by "
            'embed={"backbone": "resnet18"}'
        )
    size = settings.embed.size if isinstance(settings.embed.size, int) else 160
    return from_module(model, size=size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _clean(run: RunDir, error: BaseException) -> None:
    """Remove a run directory in which nothing has been computed, so that the same command can be given again."""
    made = {"config.yaml", "request.json", LOCK}
    if isinstance(error, DataError | ConfigError | WeightsError):  # to be mended and given again, not resumed
        made |= {"audit.json", "splits.parquet", "plan.json", "clock.jsonl", "decisions.json", "stages"}
    if not run.path.is_dir() or any(run.path.glob("stages/*/*.safetensors")):
        return
    if {p.name for p in run.path.iterdir()} <= made:
        shutil.rmtree(run.path, ignore_errors=True)
