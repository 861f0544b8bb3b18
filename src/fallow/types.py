"""Words everyone shares. Nothing here imports torch, so that the command line starts fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

Split: TypeAlias = Literal["train", "val", "test", "unlabeled", "extra"]
"""Where an image belongs. ``unlabeled`` is the pool; ``extra`` are labeled images of another origin."""

RungName: TypeAlias = str
"""``probe``, ``propagate``, ``finetune``, ``joint:<method>``, ``pretrain``, ``noisy_student``, ``ensemble``."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]
Evidence: TypeAlias = Mapping[str, Json]

Progress: TypeAlias = Callable[[str, int, int], None]
"""``progress(what, done, total)``: called often, must return fast. ``total`` 0 means unknown."""


def silent(what: str, done: int, total: int) -> None:
    """Report no progress: what every function uses when nobody watches."""
