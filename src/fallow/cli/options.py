"""Options made of what is typed elsewhere: of the config's fields and of a verb's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args, get_origin

from cyclopts import Parameter
from pydantic.fields import FieldInfo

from fallow.config import Section

_SHOWN_AS = {
    "method": "NAME",
    "budget": "TIME",
    "out": "FOLDER",
    "model": "MODEL",
    "precision": "SHARE",
    "coverage": "SHARE",
    "format": "LIST",
    "classes": "FILE",
    "files": "WORD",
    "foreign": "WORD",
    "outputs": "WORD",
    "rungs": "LIST",
    "seed": "N",
    "backbone": "NAME",
    "weights": "FILE",
    "size": "PIXELS",
    "views": "WORD",
    "n": "N",
    "rounds": "N",
    "more": "N",
    "price_per_label": "PRICE",
    "teacher": "MODEL",
    "student": "NAME",
    "latency_ms": "MS",
    "max_params": "N",
    "init": "WORD",
    "trainable": "WORD",
    "map": "WORD",
    "k": "N",
    "threshold": "DISTANCE",
    "extra": "DATA",
}


def options(model: type[Section], prefix: str = "") -> list[inspect.Parameter]:
    """Turn the fields of a config model into keyword parameters that are None unless given."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            section = field.annotation
            if name in model.first_sight:
                found += options(section, f"{name}__")
            elif section.head:
                found.append(_option(name, f"{name}__{section.head}", section.model_fields[section.head]))
            continue
        if get_origin(field.annotation) is dict:  # keys of a method's own, reached by --set
            continue
        found.append(_option(name, prefix + name, field))
    return found


def _option(name: str, key: str, field: FieldInfo) -> inspect.Parameter:
    """Return the option ``--name`` that fills in a field of the config."""
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
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, parameter]
    )


def keyword(
    name: str,
    kind: Any,
    help_text: str,
    default: Any = None,
    flag: str | None = None,
    metavar: str | None = None,
) -> inspect.Parameter:
    """Return an option that is no field of the config."""
    parameter = Parameter(
        name=flag or f"--{name}", help=help_text, negative="", show_default=False, metavar=metavar
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, parameter]
    )


def signed(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter], like: Callable[..., Any]
) -> Any:
    """Give ``function`` the parameters that the command line sees, and the prose of the verb ``like``."""
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


def and_json(signature: inspect.Signature) -> list[inspect.Parameter]:
    """Return a verb's parameters, with --json behind them."""
    shown = [
        p
        for p in signature.parameters.values()
        if not any(isinstance(a, Parameter) and a.parse is False for a in get_args(p.annotation)[1:])
    ]
    return [*shown, keyword("json", bool, "Print JSON for a script.", default=False)]
