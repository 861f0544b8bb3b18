"""The application: commands and exit codes."""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnusedCliTokensError

from fallow._version import __version__
from fallow.cli.commands import command, embed_command, find_command, predict_command, run_command
from fallow.cli.help import FIRST_STEPS, HELP, USAGE, block, epilogue
from fallow.config import DistillConfig, LabelConfig, PretrainConfig, TrainConfig
from fallow.config.forecast import ForecastConfig
from fallow.config.suggest import SuggestConfig
from fallow.errors import FallowError

_TRAIN_ON = (
    "Folder of images (class folders; or train/ val/ test/ unlabeled/), or a CSV of path,label. In a CSV a path without a "
    "label is an unlabeled image."
)

_LOOK_AT = _TRAIN_ON.removesuffix(".") + "; for suggest a flat folder without any label will do."

_LEARN_FROM = (
    "Folder of images (just images; class folders; or train/ val/ test/ unlabeled/), or a CSV of path,label. Labels are not "
    "needed; where there are some, they judge."
)


def build_app() -> App:
    """Return the command line application."""
    from fallow.verbs import (
        demo,
        distill,
        doctor,
        evaluate,
        export,
        forecast,
        init,
        label,
        methods_table,
        pretrain,
        suggest,
        train,
    )

    app = App(
        name="fallow",
        version=f"fallow {__version__}",
        help=HELP,
        help_format="markdown",
        help_epilogue="First steps:\n\n" + block(inspect.cleandoc(FIRST_STEPS).splitlines()),
        result_action="return_value",
    )
    commands = {
        "train": run_command(train, TrainConfig, _TRAIN_ON),
        "distill": run_command(distill, DistillConfig, _TRAIN_ON),
        "label": run_command(label, LabelConfig, _TRAIN_ON),
        "forecast": run_command(forecast, ForecastConfig, _LOOK_AT, resumes=False),
        "suggest": run_command(suggest, SuggestConfig, _LOOK_AT, resumes=False),
        "pretrain": run_command(pretrain, PretrainConfig, _LEARN_FROM),
        "embed": embed_command(),
        "find": find_command(),
        "predict": predict_command(),
        "evaluate": command(evaluate),
        "export": command(export),
        "methods": command(methods_table),
        "init": command(init),
        "doctor": command(doctor),
        "demo": command(demo),
    }
    for position, (name, made) in enumerate(commands.items()):
        app.command(made, name=name, help_epilogue=epilogue(name), usage=USAGE.get(name), sort_key=position)
    return app


def run(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 when all is well, 2 where the input cannot be used, and one sentence says why.

    Args:
        argv: The words behind ``fallow``; None: those of the process, which then ends here.

    Raises:
        KeyboardInterrupt: It was stopped; the message says what is kept and how to go on.
    """
    # Threads of a matrix product that wait for each other spin otherwise: beside another busy process that makes a training
    # step some 15 times slower, and alone it gains nothing. Read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a file name may hold what the terminal cannot print
    try:
        app = build_app()
        app.suppress_keyboard_interrupt = False  # `main` tells it apart from SIGTERM, in a sentence
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except (FallowError, CycloptsError) as error:
        if debug:
            raise
        sys.stderr.write(f"fallow: {_sentence(error)}\n")
        raise SystemExit(2) from None
    except BrokenPipeError:
        # The reader of a pipe went away (`fallow predict ... | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    if argv is None:
        # All is written. Taking the networks' libraries apart would keep a person waiting for seconds.
        sys.stderr.flush()
        os._exit(0)


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UnusedCliTokensError):
        text = f"there is no place for '{' '.join(error.unused_tokens or ())}' here."
    if isinstance(error, CycloptsError):
        text += f" See  {' '.join(('fallow', *(error.command_chain or ())))} --help"
    return text
