"""Fallow trains better vision models from the images you never labeled.

One verb is one function with the names and defaults of the command: ``fallow.train("photos/")``.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fallow._version import __version__
from fallow.errors import FallowError

if TYPE_CHECKING:
    from fallow.verbs import (
        Distilled,
        Embedded,
        Evaluation,
        Foreseen,
        Labels,
        Lookup,
        Prediction,
        Pretrained,
        Probed,
        Result,
        Suggested,
        demo,
        distill,
        doctor,
        embed,
        evaluate,
        export,
        find,
        forecast,
        init,
        label,
        load,
        load_labels,
        load_pretrained,
        methods_table,
        predict,
        pretrain,
        probe,
        suggest,
        train,
    )

_VERBS = (
    "Distilled",
    "Embedded",
    "Evaluation",
    "Foreseen",
    "Labels",
    "Lookup",
    "Prediction",
    "Pretrained",
    "Probed",
    "Result",
    "Suggested",
    "demo",
    "distill",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "find",
    "forecast",
    "init",
    "label",
    "load",
    "load_pretrained",
    "load_labels",
    "methods_table",
    "predict",
    "pretrain",
    "probe",
    "suggest",
    "train",
)


def __getattr__(name: str) -> Any:
    """Load a verb when it is first asked for: torch is heavy and ``import fallow`` should not be."""
    if name in _VERBS:
        return getattr(importlib.import_module("fallow.verbs"), name)
    raise AttributeError(f"module 'fallow' has no attribute '{name}'")


class _Doors(ModuleType):
    """This package: what a person calls by name is the verb, also where a room has the same name.

    Importing the room ``fallow.export`` would otherwise put the module in the place of the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _VERBS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Doors


def __dir__() -> list[str]:
    return sorted([*globals(), *_VERBS])


__all__ = [
    "Distilled",
    "Embedded",
    "Evaluation",
    "FallowError",
    "Foreseen",
    "Labels",
    "Lookup",
    "Prediction",
    "Pretrained",
    "Probed",
    "Result",
    "Suggested",
    "__version__",
    "demo",
    "distill",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "find",
    "forecast",
    "init",
    "label",
    "load",
    "load_labels",
    "load_pretrained",
    "methods_table",
    "predict",
    "pretrain",
    "probe",
    "suggest",
    "train",
]
