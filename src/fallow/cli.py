"""The command line: each command is a verb of the Python interface with the same names and defaults."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, get_args

from cyclopts import App, CycloptsError, Parameter

from fallow._version import __version__
from fallow.config import EmbedConfig, Section, TrainConfig
from fallow.errors import DataError, FallowError, RunError

_HELP = """Train better vision models from the images you never labeled.

`fallow train photos/` takes a few labeled and many unlabeled images and returns the best model it can prove, or
says honestly that labels alone were better. Start with `fallow demo`.
"""
_FIRST_SIGHT = {"embed": EmbedConfig}
"""Sections whose fields are options of their own (--backbone); all others are reached by --set section.key=value."""


_SHOWN_AS = {
    "budget": "TIME",
    "out": "FOLDER",
    "rungs": "LIST",
    "seed": "N",
    "backbone": "NAME",
    "weights": "FILE",
    "size": "PIXELS",
    "views": "WORD",
}
_USAGE = {
    "predict": "Usage: fallow predict [OPTIONS] MODEL IMAGES...",
    "init": "Usage: fallow init [OPTIONS] [PATH]",
    "demo": "Usage: fallow demo [OPTIONS]",
}
_FIRST_STEPS = """
    fallow demo                             real digits, 20 of them labeled
    fallow train photos/ --out runs/first   your own photos
    fallow predict runs/first photos/new    name what is in others

    fallow COMMAND --help                   all options of a command
    fallow --debug COMMAND ...              the whole traceback of an error
"""
_EXAMPLES = {
    "train": """
    fallow train photos/                                 ten minutes, all rungs
    fallow train photos/ --budget 2m --out runs/first    a quick first look
    fallow train photos/ --out runs/first --resume       go on with it
    fallow train list.csv --views flip --set propagate.neighbors=20
    """,
    "predict": """
    fallow predict runs/first photos/new                 a table on the screen
    fallow predict runs/first 'photos/*.jpg' --out new.csv
    fallow predict runs/first photos/new --format jsonl | head
    """,
    "evaluate": """
    fallow evaluate runs/first photos/                   on photos/test/
    fallow evaluate runs/first checked.csv --json
    """,
    "export": """
    fallow export runs/first --out model                 all of the model
    fallow export runs/first --out app/model --format onnx
    """,
    "methods": """
    fallow methods
    """,
    "init": """
    fallow init                                          writes fallow.yaml
    fallow train photos/ --config fallow.yaml
    """,
    "doctor": """
    fallow doctor
    """,
    "demo": """
    fallow demo                                          report in runs/demo/
    """,
}


def _options(model: type[Section], prefix: str = "") -> list[inspect.Parameter]:
    """Turn the fields of a config model into keyword parameters that are None unless given."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            if name in _FIRST_SIGHT:
                found += _options(_FIRST_SIGHT[name], f"{name}__")
            continue
        flag = field.annotation is bool
        default = "" if field.default is None else str(field.default)
        # Values are checked by the config itself, which gathers all mistakes: here they are words.
        kind: Any = bool | None if flag else str | None
        parameter = Parameter(
            name=f"--{name.replace('_', '-')}",
            help=f"{field.description} [default: {default}]" if default and not flag else field.description,
            metavar=None if flag else _SHOWN_AS.get(name),
            negative="",
            show_default=False,
        )
        annotation = Annotated[kind, parameter]
        found.append(
            inspect.Parameter(
                prefix + name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
        )
    return found


def _keyword(
    name: str,
    kind: Any,
    help_text: str,
    default: Any = None,
    flag: str | None = None,
    metavar: str | None = None,
) -> inspect.Parameter:
    parameter = Parameter(
        name=flag or f"--{name}", help=help_text, negative="", show_default=False, metavar=metavar
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, parameter]
    )


def _epilogue(name: str) -> str:
    """Return what stands below a command's options: examples, and for train what only --set reaches."""
    text = "Examples:\n\n" + _block(inspect.cleandoc(_EXAMPLES[name]).splitlines())
    if name == "train":
        keys = {
            f"{section}.{key}": field.description or ""
            for section, outer in TrainConfig.model_fields.items()
            if isinstance(outer.annotation, type) and issubclass(outer.annotation, Section)
            for key, field in outer.annotation.model_fields.items()
            if section not in (*_FIRST_SIGHT, "replay")
        }
        wide = max(map(len, keys))
        lines = [
            f"{key if first else '':<{wide}}  {line}"
            for key, description in keys.items()
            for first, line in zip((True, *[False] * 9), textwrap.wrap(description, 74 - wide), strict=False)
        ]
        text += "\n\nKeys for `--set` and for a config file, beside the options above (there `--views` is `embed.views`):\n\n"
        text += _block(lines)
    return text


def _block(lines: Sequence[str]) -> str:
    """Return lines that Markdown is to leave as they are."""
    return "\n".join(f"    {line}" for line in lines)


def _signed(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter], like: Callable[..., Any]
) -> Any:
    function.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    function.__name__, function.__doc__ = like.__name__, _plain(like.__doc__ or "")
    return function


def _plain(doc: str) -> str:
    """Keep the prose of a Google docstring: options carry their own help."""
    lines = inspect.cleandoc(doc).splitlines()
    ends = [
        i for i, line in enumerate(lines) if line.rstrip() in ("Args:", "Returns:", "Raises:", "Example:")
    ]
    return "\n".join(lines[: ends[0]] if ends else lines).strip()


def _train_command() -> Any:
    from fallow.verbs.train import train

    def command(data: str, **given: Any) -> None:
        from fallow.config import nest, parse_set

        as_json = given.pop("json", False)
        values = nest(
            {k.replace("__", "."): v for k, v in given.items() if k not in _TRAIN_ONLY and v is not None}
        )
        result = train(
            data,
            config=given.get("config"),
            resume=given.get("resume", False),
            set=parse_set(given.get("set_") or []),
            show="json" if as_json else "auto",
            from_process_start=True,
            **values,
        )
        _print(result, as_json)

    parameters = [
        inspect.Parameter(
            "data",
            inspect.Parameter.POSITIONAL_ONLY,
            annotation=Annotated[
                str,
                Parameter(
                    help="Folder of images (class folders; or train/ val/ test/ unlabeled/), or a CSV of path,label. "
                    "In a CSV a path without a label is an unlabeled image."
                ),
            ],
        ),
        *_options(TrainConfig),
        _keyword(
            "config",
            Path | None,
            "YAML file with any of these options, like a run's config.yaml.",
            metavar="FILE",
        ),
        _keyword(
            "set_",
            list[str] | None,
            "Pin any value; may be repeated. The keys are listed below.",
            flag="--set",
            metavar="KEY=VALUE",
        ),
        _keyword("resume", bool, "Go on with the run in --out where it was stopped.", default=False),
        _keyword("json", bool, "Print result.json instead of the last screen.", default=False),
    ]
    return _signed(command, parameters, train)


_TRAIN_ONLY = {"config", "set_", "resume", "json"}


def _command(verb: Callable[..., Any]) -> Any:
    """Make a command of a verb: same parameters, plus --json; the verb's result knows how to print itself."""
    signature = inspect.signature(verb, eval_str=True)

    def command(*args: Any, **given: Any) -> None:
        as_json = given.pop("json", False)
        result = verb(*args, **given)
        _print(result, as_json)

    return _signed(command, _and_json(signature), verb)


def _and_json(signature: inspect.Signature) -> list[inspect.Parameter]:
    shown = [
        p
        for p in signature.parameters.values()
        if not any(isinstance(a, Parameter) and a.parse is False for a in get_args(p.annotation)[1:])
    ]
    return [*shown, _keyword("json", bool, "Print JSON for a script.", default=False)]


def _predict_command() -> Any:
    """Like the others, but predictions are printed as they come: a folder may hold any number of images."""
    from fallow.verbs import predict
    from fallow.verbs.predict import stream

    def command(model: Path, *images: str, out: Path | None = None, **given: Any) -> None:
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

    return _signed(command, _and_json(inspect.signature(predict, eval_str=True)), predict)


def _print(result: Any, as_json: bool) -> None:
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


def build_app() -> App:
    """Return the command line application."""
    from fallow.verbs import demo, doctor, evaluate, export, init, methods_table

    app = App(
        name="fallow",
        version=f"fallow {__version__}",
        help=_HELP,
        help_format="markdown",
        help_epilogue="First steps:\n\n" + _block(inspect.cleandoc(_FIRST_STEPS).splitlines()),
        result_action="return_value",
    )
    commands = {
        "train": _train_command(),
        "predict": _predict_command(),
        "evaluate": _command(evaluate),
        "export": _command(export),
        "methods": _command(methods_table),
        "init": _command(init),
        "doctor": _command(doctor),
        "demo": _command(demo),
    }
    for position, (name, command) in enumerate(commands.items()):
        app.command(
            command, name=name, help_epilogue=_epilogue(name), usage=_USAGE.get(name), sort_key=position
        )
    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    0: well. 2: the input cannot be used, and one sentence says why. 130, 143: stopped by Ctrl-C or SIGTERM; one sentence
    says what is kept and how to go on.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a file name may hold what the terminal cannot print
    received: list[int] = []
    _stop_on_signals(received)
    try:
        app = build_app()
        app.suppress_keyboard_interrupt = (
            False  # it is told apart from SIGTERM, and told in a sentence, below
        )
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except (FallowError, CycloptsError) as error:
        if debug:
            raise
        sys.stderr.write(f"fallow: {_sentence(error)}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        if debug:
            raise
        sys.stderr.write(f"\nfallow: {_sentence(stop) or 'stopped; nothing was left half-written'}\n")
        raise SystemExit(128 + (received[0] if received else signal.SIGINT)) from None
    except BrokenPipeError:
        # The reader of a pipe went away (`fallow predict ... | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    if argv is None:
        # All is written. Taking the networks' libraries apart would keep a person waiting for seconds.
        sys.stderr.flush()
        os._exit(0)


def _stop_on_signals(received: list[int]) -> None:
    """Let Ctrl-C and SIGTERM end the run in good order, and a second one at once.

    Everything a run writes is whole at any moment, so that ending at once loses no more than the step at hand.
    """

    def stop(number: int, _: object) -> None:
        if received:
            os.write(2, b"\x1b[?25h" if sys.stderr.isatty() else b"")  # the cursor comes back
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # not the main thread: whoever called has handlers of their own
            signal.signal(number, stop)


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, CycloptsError):
        text += f" See  {' '.join(('fallow', *(error.command_chain or ())))} --help"
    return text
