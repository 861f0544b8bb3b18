"""Everything `fallow distill` can be told."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from fallow.config.base import Auto, Section
from fallow.config.frozen import EmbedConfig
from fallow.config.names import listed
from fallow.config.outside import ClassNames, InputConfig, Outputs
from fallow.config.run import LogConfig, RunConfig
from fallow.config.train import ReplayConfig
from fallow.config.trained import (
    AugmentConfig,
    OptimizationConfig,
    Positive,
    TrainableConfig,
    check_backbone,
)


class StudentName(Section):
    """The name of the network that learns."""

    student: str = Field(
        "auto",
        description="timm model name, or small_resnet_32 (16, 64 ...) for small images. auto: by image size and the limits given.",
    )

    @field_validator("student")
    @classmethod
    def _student(cls, value: str) -> str:
        return check_backbone(value)


class StudentConfig(TrainableConfig, StudentName):
    """The network that learns."""

    size: Annotated[int, Field(ge=8, le=1024)] | Auto = Field(
        "auto", description="Side in pixels of the square the student sees. auto: by the limits given."
    )


class DistillationConfig(Section):
    """What the student learns from its teacher."""

    label_weight: Annotated[float, Field(ge=0)] = Field(
        0.5, description="Weight of the labels' own loss beside the teacher's."
    )
    features: bool = Field(
        False, description="Let the student's features follow the teacher's as well as its answers."
    )
    feature_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of the features' loss.")


class DistillConfig(RunConfig):
    """Everything `fallow distill` can be told."""

    first_sight: ClassVar[tuple[str, ...]] = ("network",)

    teacher: str = Field(
        "",
        description="Who teaches: a run directory, its model/ folder, or any ONNX file that names images; several, comma separated, are "
        "averaged.",
    )
    latency_ms: Positive | None = Field(
        None,
        description="Longest time for one image, in milliseconds, in ONNX Runtime on all cores of this machine.",
    )
    max_params: str | None = Field(None, description="Most weights that the student may have: 500k, 3M.")
    no_int8: bool = Field(
        False, description="Do not write, and measure, a copy of the student with 8-bit weights."
    )
    outputs: Outputs = "auto"
    classes: ClassNames = None
    network: StudentConfig = Field(default_factory=StudentConfig, description="The network that learns.")
    distillation: DistillationConfig = Field(
        default_factory=DistillationConfig, description="What the student learns from its teacher."
    )
    input: InputConfig = Field(default_factory=InputConfig, description="How a teacher of your own is fed.")
    embed: EmbedConfig = Field(
        default_factory=EmbedConfig,
        description="How images become vectors, which tell what may be changed in an image.",
    )
    optimization: OptimizationConfig = Field(
        default_factory=OptimizationConfig, description="How the network's steps are taken."
    )
    augment: AugmentConfig = Field(
        default_factory=AugmentConfig, description="What may be changed in a training image."
    )
    log: LogConfig = Field(default_factory=LogConfig, description="Where the figures of training go.")
    replay: ReplayConfig = Field(
        default_factory=ReplayConfig,
        description="What a run's clock settled; nothing to fill in by hand.",
    )

    @field_validator("max_params")
    @classmethod
    def _max_params(cls, value: str | None) -> str | None:
        if value is not None:
            parse_count(value)
        return value

    @field_validator("network")
    @classmethod
    def _network(cls, value: Any, info: ValidationInfo) -> Any:
        if value.weights is not None and value.student == "auto":
            raise ValueError("weights are of one network: name it with --student")
        return value

    @property
    def teachers(self) -> tuple[str, ...]:
        """The runs and files that teach."""
        return tuple(name for name in listed(self.teacher) if name)

    @property
    def most_params(self) -> int | None:
        """The largest number of weights; None where nobody asked."""
        return None if self.max_params is None else parse_count(self.max_params)


def parse_count(text: str) -> int:
    """Return the number that ``500k``, ``3M`` or ``1200000`` means.

    Raises:
        ValueError: It is no such number.
    """
    factors = {"k": 1e3, "m": 1e6, "g": 1e9}
    number, factor = text.strip().lower(), 1.0
    if number and number[-1] in factors:
        number, factor = number[:-1], factors[number[-1]]
    try:
        found = float(number) * factor
    except ValueError:
        found = 0.0
    if not 1 <= found < 1e12:
        raise ValueError("give a number of weights such as 500k or 3M")
    return int(found)
