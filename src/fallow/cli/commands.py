"""Commands made of verbs: the same names and defaults, and a way to print what comes back."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

from cyclopts import Parameter

from fallow.cli.options import and_json, keyword, options, signed
from fallow.config import RunConfig
from fallow.errors import DataError, RunError

_NO_FIELDS = {"config", "set_", "resume", "json", "quiet"}
_GO_ON = "Go on with the run in --out where it was stopped."


def run_command(verb: Callable[..., Any], model: type[RunConfig], what: str, *, resumes: bool = True) -> Any:
    """Make the command of a verb that makes a run, whose options are the fields of its config.

    Args:
        verb: Takes data, ``config``, ``resume``, ``set``, ``show`` and the fields of the config.
        model: The config.
        what: What the data is, for the help.
        resumes: Whether there is a long run to go on with.
    """

    def run(data: str, **given: Any) -> None:
        from fallow.config import nest, parse_set

        as_json, quiet = given.pop("json", False), given.pop("quiet", False)
        values = nest(
            {k.replace("__", "."): v for k, v in given.items() if k not in _NO_FIELDS and v is not None}
        )
        result = verb(
            data,
            config=given.get("config"),
            **({"resume": given.get("resume", False)} if resumes else {}),
            set=parse_set(given.get("set_") or []),
            show="nothing" if quiet else "lines" if as_json else "auto",
            from_process_start=True,
            **values,
        )
        _print(result, as_json)

    parameters = [
        _positional("data", str, what),
        *options(model),
        keyword(
            "config",
            Path | None,
            "YAML file with any of these options, like a run's config.yaml.",
            metavar="FILE",
        ),
        keyword(
            "set_",
            list[str] | None,
            "Pin any value; may be repeated. The keys are listed below.",
            flag="--set",
            metavar="KEY=VALUE",
        ),
        *([keyword("resume", bool, _GO_ON, default=False)] if resumes else []),
        _as_json(),
        keyword("quiet", bool, "Print the end only, nothing while it runs.", default=False),
    ]
    return signed(run, parameters, verb)


def embed_command() -> Any:
    """Make the command of `embed`, whose options are the fields of its config."""
    from fallow.config.gallery import GalleryConfig
    from fallow.verbs import embed

    def run(data: str, **given: Any) -> None:
        as_json = given.pop("json", False)
        _print(embed(data, **{k: v for k, v in given.items() if v is not None}), as_json)

    what = (
        "Folder of images (just images; class folders; or train/ val/ test/ unlabeled/), or a CSV of path,label. Labels are not "
        "needed."
    )
    return signed(run, [_positional("data", str, what), *options(GalleryConfig), _as_json()], embed)


def find_command() -> Any:
    """Make the command of `find`, whose options are the fields of its config."""
    from fallow.config.gallery import LookupConfig
    from fallow.verbs import find

    def run(*images: str, index: Path, **given: Any) -> None:
        as_json = given.pop("json", False)
        _print(find(images, index, **{k: v for k, v in given.items() if v is not None}), as_json)

    shown = inspect.Parameter(
        "images",
        inspect.Parameter.VAR_POSITIONAL,
        annotation=Annotated[str, Parameter(help="Images, folders or globs.")],
    )
    index = keyword("index", Path, "The folder that `fallow embed` wrote.", metavar="FOLDER")
    offline = keyword("offline", bool, "Never reach for a model hub.", default=False)
    return signed(run, [shown, index, *options(LookupConfig), offline, _as_json()], find)


def _positional(name: str, kind: Any, what: str) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_ONLY, annotation=Annotated[kind, Parameter(help=what)]
    )


def _as_json() -> inspect.Parameter:
    return keyword("json", bool, "Print the result as JSON instead of the last screen.", default=False)


def command(verb: Callable[..., Any]) -> Any:
    """Make a command of a verb: same parameters, plus --json; the verb's result knows how to print itself."""
    signature = inspect.signature(verb, eval_str=True)

    def run(*args: Any, **given: Any) -> None:
        as_json = given.pop("json", False)
        result = verb(*args, **given)
        _print(result, as_json)

    return signed(run, and_json(signature), verb)


def predict_command() -> Any:
    """Like the others, but predictions are printed as they come: a folder may hold any number of images."""
    from fallow.verbs import predict
    from fallow.verbs.predict import stream

    def run(model: Path, *images: str, out: Path | None = None, **given: Any) -> None:
        as_json = given.pop("json", False)
        if out is None:
            with _to_stdout() as screen:
                written = stream(model, images, screen, "json" if as_json else given.get("format", "csv"))
        else:
            written = predict(model, *images, out=out, **given)
            _print(written, as_json)
        if written.unreadable == written.images:
            raise DataError(
                f"none of the {written.images} images can be read; the first is {written.first_error}"
            )
        if written.unreadable:
            sys.stderr.write(
                f"fallow: {written.unreadable} of {written.images} images could not be read; "
                f"the first is {written.first_error}\n"
            )

    return signed(run, and_json(inspect.signature(predict, eval_str=True)), predict)


def _print(result: Any, as_json: bool) -> None:
    if aside := getattr(
        result, "aside", ""
    ):  # one of several processes, the first of which prints the result
        sys.stderr.write(f"fallow: {aside}\n")
        return
    text = json.dumps(result.to_json(), indent=2, ensure_ascii=False) if as_json else result.screen()
    with _to_stdout() as screen:
        screen.write(text if text.endswith("\n") else text + "\n")


@contextlib.contextmanager
def _to_stdout() -> Iterator[IO[str]]:
    """Give stdout to write to, and say in a sentence when it takes nothing (`> /mnt/full/new.csv`)."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # Python writes what is left at its end
        raise RunError(
            f"the output cannot be written ({error.strerror or error}): write it to another place"
        ) from error
