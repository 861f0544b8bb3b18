"""Values made into a config, and everything that is wrong with them told in words, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fallow.config.base import Section
from fallow.errors import ConfigError, nearest

C = TypeVar("C", bound=Section)


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
    if origin is dict:
        return "keys and values"
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


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys
