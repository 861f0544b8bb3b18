"""What can be asked for: typed, documented, checked. The command line, Python and ``config.yaml`` share these models.

Fields are ``T | "auto"``; the study resolves every "auto" into a `Decision`. Unknown keys are errors that name the
nearest valid key, and all errors of a config are gathered and shown at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from fallow.errors import ConfigError, nearest

Auto = Literal["auto"]
View = Literal["none", "flip", "turns"]
SUPPORTED_RUNGS = ("probe", "propagate")
WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_LARGEST_SEED = 2**32 - 1  # what the random generators of all libraries take


class Section(BaseModel):
    """Base of all config sections: unknown keys are refused, values are checked on assignment too."""

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, validate_default=False, coerce_numbers_to_str=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain_value(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``2024`` as a number and ``no`` as false: the first may name a folder, the second is no number."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind is not bool:
            raise PydanticCustomError("no_truth_value", "no truth value")
        if isinstance(value, int | float | str) and Path in get_args(kind):
            return Path(str(value)).expanduser()  # a shell leaves the ~ in --out=~/runs as it is
        return value


class EmbedConfig(Section):
    """How images become vectors."""

    backbone: str = Field(
        "auto",
        description="timm model name, `pixels` (no network, small images), or several joined by `+`. "
        "auto: what is at hand, by image size; on small gray images the pixels vote too.",
    )
    weights: Path | None = Field(
        None, description="File with the backbone's weights (.safetensors, .pt, .pth), loaded strictly."
    )
    size: Annotated[int, Field(ge=8, le=1024)] | Auto = Field(
        "auto", description="Side in pixels of the square the backbone sees. auto: by image size and device."
    )
    views: View | Auto = Field(
        "auto",
        description="What may be done to an image without changing its class: none, flip (left-right), turns "
        "(quarter turns and flips). auto: those that keep the class, measured on the images.",
    )

    @field_validator("backbone")
    @classmethod
    def _backbone(cls, value: str) -> str:
        parts = [part.strip() for part in value.split("+")]
        if not all(parts) or len(set(parts)) < len(parts):
            raise ValueError("give one name, or different names joined by +, as in resnet18+pixels")
        return value

    @field_validator("weights")
    @classmethod
    def _weights(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        if not value.is_file():
            raise ValueError("there is no such file; give a .safetensors, .pt or .pth file")
        if value.suffix not in WEIGHTS_SUFFIXES:
            raise ValueError("its type is unknown; give a .safetensors, .pt or .pth file")
        parts = [part.strip() for part in str(info.data.get("backbone", "auto")).split("+")]
        if "pixels" in parts:
            raise ValueError("the backbone 'pixels' has no weights; leave them out, or take another backbone")
        if len(parts) > 1:
            raise ValueError("weights belong to one backbone; give one name as the backbone")
        return value


class ProbeConfig(Section):
    """The labels-only linear model on the vectors."""

    strength: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto", description="Inverse L2 penalty (C). auto: 30 below 100 labels, cross-fitted above."
    )


class PropagateConfig(Section):
    """Spreading labels over the neighbor graph."""

    neighbors: Annotated[int, Field(ge=1, le=1000)] | Auto = Field(
        "auto", description="Neighbors of each image in the graph. auto: 10."
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] | Auto = Field(
        "auto", description="How far labels travel: 0 stays, 1 goes everywhere. auto: 0.98."
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


class ReplayConfig(Section):
    """What the clock and the search of a run settled: written into its ``config.yaml``, so that a replay does the same."""

    data: str = Field("", description="Fingerprint of the data; on other data nothing here counts.")
    spaces: dict[str, Any] = Field(default_factory=dict, description="What was embedded.")
    folds: dict[str, int] = Field(default_factory=dict, description="Folds that each rung was measured on.")
    searched: dict[str, Any] = Field(
        default_factory=dict,
        description="Values above that were searched, not asked for: searched again, in every fold, unless changed.",
    )


class TrainConfig(Section):
    """Everything `fallow train` can be told."""

    budget: str = Field("10m", description="Wall clock for the whole run: 90s, 10m, 2h.")
    out: Path | None = Field(
        None, description="A new or empty folder for the run. Default: a new one in runs/."
    )
    rungs: str = Field(
        "auto", description="Rungs to try, comma separated: probe,propagate. auto: all that fit."
    )
    seed: int = Field(0, ge=0, le=_LARGEST_SEED, description="Seed of everything random.")
    offline: bool = Field(False, description="Never reach for a model hub; use weights on disk only.")
    embed: EmbedConfig = Field(default_factory=EmbedConfig, description="How images become vectors.")
    probe: ProbeConfig = Field(default_factory=ProbeConfig, description="The labels-only linear model.")
    propagate: PropagateConfig = Field(
        default_factory=PropagateConfig, description="Spreading over neighbors."
    )
    choose: ChooseConfig = Field(default_factory=ChooseConfig, description="How rungs are compared.")
    replay: ReplayConfig = Field(
        default_factory=ReplayConfig, description="What a run's clock settled; nothing to fill in by hand."
    )

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
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?\s*(?:(\d+(?:\.\d+)?)m)?\s*(?:(\d+(?:\.\d+)?)s)?")


def parse_duration(text: str) -> float:
    """Return seconds for ``90s``, ``10m``, ``1h30m``.

    Raises:
        ValueError: ``text`` is not a duration with units, or shorter than five seconds.
    """
    number = text.strip()
    if number.replace(".", "", 1).isdigit():
        raise ValueError(f"'{number}' has no unit; write {number}s, {number}m or {number}h")
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
        raise ConfigError("; ".join(_mistakes(model, error, where))) from None


def _mistakes(model: type[Section], error: ValidationError, where: str) -> list[str]:
    """Return one sentence for each wrong key."""
    known = _known_keys(model)
    found: dict[str, str] = {}
    for item in error.errors():
        key, field = _field_at(model, item["loc"])
        if item["type"] in ("extra_forbidden", "invalid_key") or field is None:
            hint = nearest(key, known) or " `fallow init` writes a file with all keys."
            found[key] = f"unknown key '{key}' in {where}.{hint}"
        elif item["type"] == "value_error":
            reason = str(item["msg"]).removeprefix("Value error, ")
            found[key] = f"'{key}' in {where} cannot be '{item['input']}': {reason}"
        elif isinstance(item["input"], Mapping):
            found[key] = f"'{key}' in {where} takes a value, not keys of its own: give {_takes(field)}"
        else:
            found[key] = f"'{key}' in {where} cannot be '{item['input']}': give {_takes(field)}"
    return list(found.values())


def _field_at(model: type[BaseModel], place: Sequence[int | str]) -> tuple[str, FieldInfo | None]:
    """Return the dotted key of an error and its field; pydantic adds the member of a union behind them."""
    keys: list[str] = []
    field: FieldInfo | None = None
    here: Any = model
    for part in place:
        if not (isinstance(here, type) and issubclass(here, BaseModel)):
            break
        keys.append(str(part))
        field = here.model_fields.get(str(part))
        here = field.annotation if field else None
    return ".".join(keys), field


def _takes(field: FieldInfo) -> str:
    """Say in words what a field takes."""
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"keys of its own ({', '.join(kind.model_fields)})"
    return _in_words(kind, field.metadata)


def _in_words(kind: Any, limits: Sequence[Any] = ()) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _in_words(parts[0], parts[1].metadata if isinstance(parts[1], FieldInfo) else parts[1:])
    if origin in (Union, UnionType):
        members = [part for part in parts if part is not type(None)]
        # All words are one list, whatever number stands before them.
        words = [word for part in members if get_origin(part) is Literal for word in get_args(part)]
        others = [_in_words(part, limits) for part in members if get_origin(part) is not Literal]
        return _listed([*others, *map(str, words)])
    if origin is Literal:
        return _listed([str(word) for word in parts])
    if kind in (int, float):
        return ("a whole number" if kind is int else "a number") + _range(limits)
    return {bool: "true or false", Path: "a path"}.get(kind, "text")


def _range(limits: Sequence[Any]) -> str:
    found = {
        name: getattr(limit, name)
        for limit in limits
        for name in ("ge", "gt", "le", "lt")
        if hasattr(limit, name)
    }
    if "ge" in found and "le" in found:
        return f" from {found['ge']} to {found['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    text = " and ".join(f"{words[name]} {limit}" for name, limit in found.items())
    return f" {text}" if text else ""


def _listed(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


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
            raise ConfigError(
                f"the value in --set {item} is not valid YAML: put it in quotes, or give a plain word or number"
            ) from error
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
        raise ConfigError(
            f"the config file '{path}' cannot be read ({error.strerror or error}): "
            "give a YAML file, like the one that `fallow init` writes"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"the config file '{path}' is not valid YAML{_place(error)}: write lines like  budget: 10m"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"the config file '{path}' should hold keys and values, like those that `fallow init` writes"
        )
    return values


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f" (line {mark.line + 1})"


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
    "ReplayConfig",
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
