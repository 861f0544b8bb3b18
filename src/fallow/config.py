"""What can be asked for: typed, documented, checked. The command line, Python and ``config.yaml`` share these models.

Fields are ``T | "auto"``; the study resolves every "auto" into a `Decision`. Unknown keys are errors that name the
nearest valid key, and all errors of a config are gathered and shown at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fallow.errors import ConfigError, nearest

Auto = Literal["auto"]
View = Literal["none", "flip", "turns"]
SUPPORTED_RUNGS = ("probe", "propagate")


class Section(BaseModel):
    """Base of all config sections: unknown keys are refused, values are checked on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=False)


class EmbedConfig(Section):
    """How images become vectors."""

    backbone: str = Field(
        "auto",
        description="timm model name, `pixels` (no network, small images), or several joined by `+`. "
        "auto: chosen on held-out labels among what is at hand.",
    )
    weights: Path | None = Field(
        None, description="File with the backbone's weights (.safetensors, .pt, .pth), loaded strictly."
    )
    size: Annotated[int, Field(ge=8, le=1024)] | Auto = Field(
        "auto", description="Side in pixels of the square the backbone sees. auto: by image size and budget."
    )
    views: View | Auto = Field(
        "auto",
        description="What may be done to an image without changing its class: none, flip (left-right), turns "
        "(quarter turns and flips). auto: chosen on held-out labels.",
    )


class ProbeConfig(Section):
    """The labels-only linear model on the vectors."""

    strength: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto", description="L2 penalty. auto: default below 100 labels, cross-fitted above."
    )


class PropagateConfig(Section):
    """Spreading labels over the neighbor graph."""

    neighbors: Annotated[int, Field(ge=1, le=1000)] | Auto = Field(
        "auto", description="Neighbors of each image in the graph."
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] | Auto = Field(
        "auto", description="How far labels travel: 0 stays, 1 goes everywhere."
    )


class ChooseConfig(Section):
    """How rungs are compared."""

    folds: Annotated[int, Field(ge=2, le=20)] | Auto = Field(
        "auto", description="Folds of the held-out labels. auto: the smallest class up to 5."
    )
    repeats: Annotated[int, Field(ge=1, le=50)] | Auto = Field(
        "auto",
        description="Repeats of the fold assignment. auto: more with fewer labels, as the budget allows.",
    )


class TrainConfig(Section):
    """Everything `fallow train` can be told."""

    budget: str = Field("10m", description="Wall clock for the whole run: 90s, 10m, 2h.")
    out: Path | None = Field(None, description="Run directory. Default: runs/<a new name>.")
    rungs: str = Field(
        "auto", description="Rungs to try, comma separated: probe,propagate. auto: all that fit."
    )
    seed: int = Field(0, ge=0, description="Seed of everything random.")
    offline: bool = Field(False, description="Never reach for a model hub; use weights on disk only.")
    embed: EmbedConfig = Field(default_factory=EmbedConfig, description="How images become vectors.")
    probe: ProbeConfig = Field(default_factory=ProbeConfig, description="The labels-only linear model.")
    propagate: PropagateConfig = Field(
        default_factory=PropagateConfig, description="Spreading over neighbors."
    )
    choose: ChooseConfig = Field(default_factory=ChooseConfig, description="How rungs are compared.")

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        parse_duration(value)
        return value

    @field_validator("rungs")
    @classmethod
    def _rungs(cls, value: str) -> str:
        if value != "auto":
            for name in (part.strip() for part in value.split(",")):
                if name not in SUPPORTED_RUNGS:
                    raise ValueError(
                        f"'{name}' is not a rung; there are {', '.join(SUPPORTED_RUNGS)}.{nearest(name, SUPPORTED_RUNGS)}"
                    )
        return value

    @property
    def seconds(self) -> float:
        """The budget in seconds."""
        return parse_duration(self.budget)

    @property
    def rung_names(self) -> tuple[str, ...]:
        """The rungs asked for, always with the probe, which every other rung is measured against."""
        if self.rungs == "auto":
            return SUPPORTED_RUNGS
        asked = {part.strip() for part in self.rungs.split(",")} | {"probe"}
        return tuple(name for name in SUPPORTED_RUNGS if name in asked)


C = TypeVar("C", bound=Section)
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?\s*(?:(\d+(?:\.\d+)?)m)?\s*(?:(\d+(?:\.\d+)?)s?)?")


def parse_duration(text: str) -> float:
    """Return seconds for ``90s``, ``10m``, ``1h30m``, ``45`` (seconds).

    Raises:
        ValueError: ``text`` is not a duration, or shorter than five seconds.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if not match or not any(match.groups()):
        raise ValueError(f"'{text}' is not a duration; write it like 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total < 5:
        raise ValueError(f"'{text}' is too short for any run; give at least 5s")
    return total


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys


def build(model: type[C], values: Mapping[str, Any], where: str = "the options") -> C:
    """Validate ``values`` into ``model``; gather every mistake into one sentence each.

    Raises:
        ConfigError: Any key is unknown or any value is out of range; all of them are named.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        known = _known_keys(model)
        lines: dict[str, str] = {}
        for item in error.errors():
            parts = [str(p) for p in item["loc"] if p not in ("int", "float", "str") and "[" not in str(p)]
            key = ".".join(p for p in parts if not p.startswith(("constrained", "literal", "function")))
            if item["type"] == "extra_forbidden":
                lines[key] = f"unknown key '{key}' in {where}.{nearest(key, known)}"
            else:
                reason = str(item["msg"]).removeprefix("Value error, ")
                shown = item.get("input")
                lines.setdefault(key, f"'{key}' in {where} cannot be {shown!r}: {reason}")
        raise ConfigError("; ".join(lines.values())) from None


def nest(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys (``embed.size``) into nested mappings."""
    tree: dict[str, Any] = {}
    for key, value in pairs.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"'{key}' cannot be set: '{part}' is a value, not a section")
        node[last] = value
    return tree


def parse_set(items: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Parse ``--set key=value`` items; values are YAML, so ``3e-4``, ``true`` and ``[1, 2]`` mean what they look like.

    Raises:
        ConfigError: An item has no ``=`` or its value is not YAML.
    """
    pairs: dict[str, Any] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set takes key=value, not '{item}'; for example --set embed.views=flip")
        try:
            pairs[key.strip()] = (
                float(value) if re.fullmatch(r"\s*[+-]?\d+e[+-]?\d+\s*", value) else yaml.safe_load(value)
            )
        except yaml.YAMLError as error:
            raise ConfigError(f"the value in --set {item} is not valid YAML") from error
    return pairs


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the keys of ``over`` laid over it, section by section."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML config file into a mapping.

    Raises:
        ConfigError: The file is missing, not YAML or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the config file '{path}' cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the config file '{path}' is not valid YAML: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"the config file '{path}' should hold keys and values, like those that `fallow init` writes"
        )
    return values


def dump_config(values: Mapping[str, Any]) -> str:
    """Return ``values`` as YAML text."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


__all__ = [
    "SUPPORTED_RUNGS",
    "Auto",
    "ChooseConfig",
    "EmbedConfig",
    "ProbeConfig",
    "PropagateConfig",
    "Section",
    "Self",
    "TrainConfig",
    "View",
    "build",
    "dump_config",
    "merge",
    "nest",
    "parse_duration",
    "parse_set",
    "read_config",
]
