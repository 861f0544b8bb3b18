"""Training on labels and pool together: one file per method, all on the posteriors of any task.

How to add one: ``docs/add-a-method.md``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fallow.errors import ConfigError, nearest
from fallow.methods.base import JointMethod, MethodInfo, options_of
from fallow.methods.joint.adamatch import AdaMatch
from fallow.methods.joint.balanced import Balanced
from fallow.methods.joint.consistency import Consistency, Guide, Lesson, Seen
from fallow.methods.joint.fixmatch import FixMatch
from fallow.methods.joint.flexmatch import FlexMatch
from fallow.methods.joint.freematch import FreeMatch
from fallow.methods.joint.mean_teacher import MeanTeacher
from fallow.methods.joint.softmatch import SoftMatch
from fallow.methods.joint.uda import UDA
from fallow.tasks import Task

_KINDS: tuple[type[Consistency], ...] = (
    SoftMatch,
    AdaMatch,
    UDA,
    FixMatch,
    FlexMatch,
    FreeMatch,
    MeanTeacher,
)
JOINT: dict[str, type[Consistency]] = {kind.info.name: kind for kind in _KINDS}
"""Joint methods by name; each can be had with ``+abc`` behind it."""


def joint_method(
    name: str, task: Task, mix: Tensor | None = None, guide: Guide | None = None, **options: Any
) -> JointMethod:
    """Make a joint method.

    Args:
        name: One of `JOINT`, or that with ``+abc`` behind it.
        task: What a label is.
        mix: Class shares of the pool, (classes,), that posteriors are aligned to; None: as the paper has it.
        guide: A second opinion on the pool; None: the method's teacher alone. See `Consistency`.
        options: Hyperparameters; see the method's class, and `Balanced` for those of ``+abc``.

    Raises:
        ConfigError: There is no such method or option; the nearest is named.
    """
    plain, plus, _ = name.partition(Balanced.info.name)
    if plain not in JOINT or (plus and name != plain + plus):
        valid = [*JOINT, *(each + Balanced.info.name for each in JOINT)]
        raise ConfigError(
            f"There is no joint method '{name}'; there are {', '.join(JOINT)}, each also with {Balanced.info.name}."
            f"{nearest(name, valid)}"
        )
    kind = JOINT[plain]
    own, outer = options_of(kind), options_of(Balanced) if plus else frozenset()
    for key in options:
        if key not in own | outer:
            raise ConfigError(f"'{key}' is not an option of {name}.{nearest(key, own | outer)}")
    inner = kind(task, mix=mix, guide=guide, **{key: value for key, value in options.items() if key in own})
    if not plus:
        return inner
    return Balanced(inner, **{key: value for key, value in options.items() if key in outer})


def joint_infos() -> tuple[MethodInfo, ...]:
    """Return how each joint method describes itself."""
    return (*(kind.info for kind in JOINT.values()), Balanced.info)


__all__ = [
    "JOINT",
    "UDA",
    "AdaMatch",
    "Balanced",
    "Consistency",
    "FixMatch",
    "FlexMatch",
    "FreeMatch",
    "Guide",
    "Lesson",
    "MeanTeacher",
    "Seen",
    "SoftMatch",
    "joint_infos",
    "joint_method",
    "options_of",
]
