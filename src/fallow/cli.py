"""The command line: each command is a verb of the Python interface with the same names and defaults."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import App, CycloptsError, Parameter

from fallow._version import __version__
from fallow.config import EmbedConfig, Section, TrainConfig
from fallow.errors import FallowError

_HELP = """Train better vision models from the images you never labeled.

`fallow train photos/` takes a few labeled and many unlabeled images and returns the best model it can prove, or
says honestly that labels alone were better. Start with `fallow demo`.
"""
_FIRST_SIGHT = {"embed": EmbedConfig}
"""Sections whose fields are options of their own (--backbone); all others are reached by --set section.key=value."""


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
    name: str, kind: Any, help_text: str, default: Any = None, flag: str | None = None
) -> inspect.Parameter:
    parameter = Parameter(name=flag or f"--{name}", help=help_text, negative="", show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, parameter]
    )


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
        sys.stdout.write(json.dumps(result.to_json(), indent=2) + "\n" if as_json else result.screen())

    parameters = [
        inspect.Parameter(
            "data",
            inspect.Parameter.POSITIONAL_ONLY,
            annotation=Annotated[str, Parameter(help="Folder of images, or a CSV of path,label.")],
        ),
        *_options(TrainConfig),
        _keyword("config", Path | None, "YAML file with any of these options, like a run's config.yaml."),
        _keyword(
            "set_", list[str] | None, "Pin any value: --set embed.views=flip. May be repeated.", flag="--set"
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
        sys.stdout.write(json.dumps(result.to_json(), indent=2) + "\n" if as_json else result.screen())

    shown = [
        p
        for p in signature.parameters.values()
        if not any(isinstance(a, Parameter) and a.parse is False for a in get_args(p.annotation)[1:])
    ]
    return _signed(command, [*shown, _keyword("json", bool, "Print JSON for a script.", default=False)], verb)


def build_app() -> App:
    """Return the command line application."""
    from fallow.verbs import demo, doctor, evaluate, export, init, methods_table, predict

    app = App(
        name="fallow",
        version=f"fallow {__version__}",
        help=_HELP,
        help_format="markdown",
        result_action="return_value",
    )
    app.command(_train_command(), name="train")
    for verb, name in (
        (predict, "predict"),
        (evaluate, "evaluate"),
        (export, "export"),
        (methods_table, "methods"),
        (init, "init"),
        (doctor, "doctor"),
        (demo, "demo"),
    ):
        app.command(_command(verb), name=name)
    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    0: well. 2: the input cannot be used, and one sentence says why. 130, 143: stopped by Ctrl-C or SIGTERM; one sentence
    says what is kept and how to go on.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    received: list[int] = []
    _stop_on_signals(received)
    try:
        build_app()(arguments, exit_on_error=False, print_error=False)
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
    return " ".join(str(error).split())
