"""What all sections of the config share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Auto = Literal["auto"]
WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


class Section(BaseModel):
    """Base of all config sections: unknown keys are refused, values are checked on assignment too.

    Attributes:
        first_sight: Sections whose keys are options of their own on the command line (--backbone); those of all others are
            reached by --set section.key=value.
        head: The key of a section that is meant by the section's own name on the command line: --extra FOLDER.
    """

    first_sight: ClassVar[tuple[str, ...]] = ()
    head: ClassVar[str] = ""

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


def _readable(file: Path | None) -> Path | None:
    """Make sure that ``file`` can be a file of weights."""
    if file is not None and not file.is_file():
        raise ValueError("there is no such file; give a .safetensors, .pt or .pth file")
    if file is not None and file.suffix not in WEIGHTS_SUFFIXES:
        raise ValueError("its type is unknown; give a .safetensors, .pt or .pth file")
    return file


WeightsFile = Annotated[Path | None, AfterValidator(_readable)]
"""A file of weights that is there."""
