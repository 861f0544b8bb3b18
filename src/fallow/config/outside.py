"""How a model that comes from elsewhere is fed and read: for every verb that asks one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from fallow.config.base import Auto, Section

Outputs = Annotated[
    Literal["auto", "logits", "probabilities"],
    Field(description="What your model gives: logits or probabilities. auto: seen from its answers."),
]
ClassNames = Annotated[
    Path | None,
    Field(
        description="File with the class names of your model in the order of its outputs: a JSON list, or one a line. Default: "
        "labels.json beside it, or the classes of the data in alphabetical order."
    ),
]


class InputConfig(Section):
    """How images are fed to a model of your own; an ONNX file's own size and type are read from it."""

    size: Annotated[int, Field(ge=8, le=2048)] | Auto = Field(
        "auto", description="Side in pixels of the square that the model takes. auto: the file's, or 224."
    )
    mean: tuple[float, float, float] = Field(
        (0.485, 0.456, 0.406), description="Mean of each channel on a scale of 0 to 1. Default: ImageNet's."
    )
    std: tuple[float, float, float] = Field(
        (0.229, 0.224, 0.225), description="Standard deviation of each channel, likewise."
    )


class Asking(Protocol):
    """What is told of a model from elsewhere, whichever verb asks it."""

    @property
    def outputs(self) -> Literal["auto", "logits", "probabilities"]:
        """What its answers are."""

    @property
    def classes(self) -> Path | None:
        """File with the names of its outputs."""

    @property
    def input(self) -> InputConfig:
        """How it is fed."""
