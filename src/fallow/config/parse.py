"""Words, files and ``key=value`` items made into values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fallow.errors import ConfigError

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
