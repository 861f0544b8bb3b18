"""Names of rungs, methods and loggers that can be asked for."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.errors import nearest

SUPPORTED_RUNGS: tuple[str, ...] = (
    "probe",
    "blend",
    "propagate",
    "finetune",
    "joint",
    "pretrain",
    "noisy_student",
    "ensemble",
)
"""In the order of the ladder."""
METHODS = ("softmatch", "adamatch", "uda", "fixmatch", "flexmatch", "freematch", "mean_teacher")
"""Joint methods; each can be had with `LONG_TAIL` behind its name."""
LONG_TAIL = "+abc"
PRETRAIN_METHODS = (
    "simclr",
    "barlow_twins",
    "vicreg",
    "byol",
    "simsiam",
    "moco",
    "swav",
    "dino",
    "ibot",
    "msn",
    "mae",
    "lejepa",
    "npid",
    "rotnet",
    "clusterfit",
    "distill",
    "deepcluster",
    "jigsaw",
    "pirl",
    "supcon",
    "triplet",
    "multi_similarity",
    "circle",
    "soft_nn",
    "lifted",
    "pn",
)
"""Methods of `fallow pretrain`; the last ones learn from labels too."""
RUNG_METHODS = (
    "simclr",
    "barlow_twins",
    "vicreg",
    "byol",
    "simsiam",
    "moco",
    "swav",
    "dino",
    "lejepa",
    "npid",
    "rotnet",
)
"""Those that a rung of the ladder can use: any network, no label, and nothing that another network says."""
LOGGERS = ("jsonl", "tensorboard", "wandb", "mlflow")


def listed(text: str) -> tuple[str, ...]:
    """Return the words of a comma-separated list."""
    return tuple(part.strip() for part in text.split(","))


def check_name(name: str, kind: str, valid: Sequence[str], there_are: str = "") -> None:
    """Make sure that ``name`` is one of ``valid``.

    Args:
        name: What was asked for.
        kind: What it should be, in words: ``a rung``.
        valid: All names.
        there_are: The names as they are told; all of them by default.

    Raises:
        ValueError: It is none of them; the nearest is named.
    """
    if name not in valid:
        told = there_are or ", ".join(valid)
        raise ValueError(f"'{name}' is not {kind}; there are {told}.{nearest(name, valid)}")


def check_method(name: str) -> None:
    """Make sure that ``name`` is a joint method.

    Raises:
        ValueError: There is none of this name; the nearest is named.
    """
    valid = (*METHODS, *(f"{method}{LONG_TAIL}" for method in METHODS))
    told = f"{', '.join(METHODS)}, each also with {LONG_TAIL} for classes of unequal size"
    check_name(name, "a method", valid, told)
