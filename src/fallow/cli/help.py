"""What the help says beside the options: first steps, examples, and the keys that only --set reaches."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from fallow.config import DistillConfig, LabelConfig, PretrainConfig, Section, TrainConfig
from fallow.config.forecast import ForecastConfig
from fallow.config.suggest import SuggestConfig

_WIDTH = 76
HELP = """Train better vision models from the images you never labeled.

`fallow train photos/` takes a few labeled and many unlabeled images and returns the best model it can prove, or
says honestly that labels alone were better. Start with `fallow demo`.
"""
USAGE = {
    "predict": "Usage: fallow predict [OPTIONS] MODEL IMAGES...",
    "find": "Usage: fallow find --index FOLDER [OPTIONS] IMAGES...",
    "init": "Usage: fallow init [OPTIONS] [PATH]",
    "demo": "Usage: fallow demo [OPTIONS]",
}
FIRST_STEPS = """
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
    fallow train photos/ --budget 1h --method adamatch   train a network with it
    fallow train photos/ --extra rendered/               more labels, of another kind
    """,
    "pretrain": """
    fallow pretrain photos/                              ten minutes
    fallow pretrain photos/ --budget 1h --out runs/base  longer is better
    fallow train photos/ --backbone runs/base            train with it
    fallow pretrain photos/ --method barlow_twins --backbone resnet18
    """,
    "distill": """
    fallow distill photos/ --teacher runs/first            three times as fast
    fallow distill photos/ --teacher runs/first --latency-ms 5
    fallow distill photos/ --teacher runs/a,runs/b --student small_resnet_32
    fallow distill photos/ --teacher theirs.onnx --classes names.txt
    """,
    "label": """
    fallow label photos/                                 with a model made in seconds
    fallow label photos/ --model runs/first --precision 0.98
    fallow label photos/ --model theirs.onnx --classes names.txt
    fallow label photos/ --coverage 0.8 --format folders,label-studio
    fallow label photos/ --precision 0.9 --certify       shown, not estimated
    """,
    "forecast": """
    fallow forecast photos/                              what twice the labels bring
    fallow forecast photos/ --more 200 --price-per-label 0.1
    fallow forecast photos/ --json
    """,
    "suggest": """
    fallow suggest photos/ --n 50                        what to label next
    fallow suggest heap/ --n 20 --out next               no label at all yet
    """,
    "embed": """
    fallow embed photos/ --out vectors                   a table, an array, two pages
    fallow embed photos/ --model runs/base --views flip
    fallow embed photos/ --model hf-hub:timm/vit_small_patch14_dinov2.lvd142m
    """,
    "find": """
    fallow find new.jpg --index vectors                  the five nearest, or no match
    fallow find new/ --index vectors --precision 0.95 --json
    """,
    "predict": """
    fallow predict runs/first photos/new                 a table on the screen
    fallow predict runs/first 'photos/*.jpg' --out new.csv
    fallow predict runs/first photos/new --format jsonl | head
    """,
    "evaluate": """
    fallow evaluate runs/first photos/                   on photos/test/
    fallow evaluate runs/first checked.csv --json
    fallow evaluate runs/base photos/                    features of a backbone
    fallow evaluate runs/base photos/ --against resnet18 --out compared
    fallow evaluate pixels photos/ --probe knn,linear
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


_CONFIGS: dict[str, type[Section]] = {
    "train": TrainConfig,
    "label": LabelConfig,
    "pretrain": PretrainConfig,
    "distill": DistillConfig,
    "forecast": ForecastConfig,
    "suggest": SuggestConfig,
}


def epilogue(name: str) -> str:
    """Return what stands below a command's options: examples, and for train what only --set reaches."""
    text = "Examples:\n\n" + block(inspect.cleandoc(_EXAMPLES[name]).splitlines())
    if (model := _CONFIGS.get(name)) is not None:
        text += "\n\n`--set SECTION.KEY=VALUE` pins any of these as well; all are found out where they are left alone"
        text += ". `fallow init` writes a file that explains each of them:" if model is TrainConfig else ":"
        text += "\n\n" + block(_keys(model))
    return text


def _keys(model: type[Section]) -> list[str]:
    """Return the sections that have no options of their own, each with what it is about and its keys."""
    sections = {
        name: field
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        if name not in (*model.first_sight, "replay")
    }
    wide = max(map(len, sections))
    lines: list[str] = []
    for name, field in sections.items():
        keys = ", ".join(field.annotation.model_fields)  # type: ignore[union-attr]
        told = [field.description or "", *textwrap.wrap(keys, _WIDTH - wide - 2)]
        lines += [f"{title:<{wide}}  {line}" for title, line in zip_longest((name,), told, fillvalue="")]
    return lines


def block(lines: Sequence[str]) -> str:
    """Return lines that Markdown is to leave as they are."""
    return "\n".join(f"    {line}" for line in lines)
