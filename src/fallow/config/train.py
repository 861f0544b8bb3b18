"""Everything `fallow train` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from fallow.config.base import Auto, Section
from fallow.config.frozen import EmbedConfig, ProbeConfig, PropagateConfig
from fallow.config.names import LONG_TAIL, METHODS, SUPPORTED_RUNGS, check_method, check_name, listed
from fallow.config.run import LogConfig, RunConfig
from fallow.config.trained import (
    AugmentConfig,
    JointConfig,
    NetworkConfig,
    NoisyStudentConfig,
    OptimizationConfig,
    PretrainRungConfig,
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


class ExtraConfig(Section):
    """Labeled images of another origin, as a further source of training images."""

    head: ClassVar[str] = "data"

    data: Path | None = Field(
        None,
        description="More labeled images of the same classes, but of another origin: rendered ones, another camera, a public set. "
        "They are learned from as far as they help on your own held-out labels, and never tested on.",
    )
    weight: Annotated[float, Field(ge=0, le=100)] | Auto = Field(
        "auto",
        description="How much all extra images count together, in terms of your labels: 1 = as much as these. auto: searched, "
        "0 (left out) among the candidates.",
    )

    @field_validator("data")
    @classmethod
    def _whole_path(cls, value: Path | None) -> Path | None:
        """A run may go on, or be done again, from another folder."""
        return None if value is None else value.resolve()


class ReplayConfig(Section):
    """What the clock and the search of a run settled: written into its ``config.yaml``, so that a replay does the same."""

    data: str = Field("", description="Fingerprint of the data; on other data nothing here counts.")
    spaces: dict[str, Any] = Field(default_factory=dict, description="What was embedded.")
    folds: dict[str, int] = Field(default_factory=dict, description="Folds that each rung was measured on.")
    skipped: dict[str, str] = Field(
        default_factory=dict, description="Rungs that were left out, and what was said about it."
    )
    steps: dict[str, int] = Field(
        default_factory=dict, description="Steps that each trained rung was planned to take."
    )
    cuts: dict[str, int] = Field(
        default_factory=dict, description="Steps at which the clock ended fits, by rung and fold."
    )
    maps: dict[str, int] = Field(
        default_factory=dict, description="Views that the frozen part of the network was run on."
    )
    tuning: dict[str, Any] = Field(
        default_factory=dict, description="What labels-only training searched, and what each fold found."
    )
    searched: dict[str, Any] = Field(
        default_factory=dict,
        description="Values above that were searched, not asked for: searched again, in every fold, unless changed.",
    )


class TrainConfig(RunConfig):
    """Everything `fallow train` can be told."""

    first_sight: ClassVar[tuple[str, ...]] = ("embed",)

    rungs: str = Field(
        "auto", description=f"Rungs to try, comma separated: {','.join(SUPPORTED_RUNGS)}. auto: all that fit."
    )
    method: str = Field(
        "auto",
        description=f"Method of the joint rung: {', '.join(METHODS)}; with {LONG_TAIL} behind it for classes of "
        f"unequal size. auto: {METHODS[0]}.",
    )
    embed: EmbedConfig = Field(default_factory=EmbedConfig, description="How images become vectors.")
    probe: ProbeConfig = Field(default_factory=ProbeConfig, description="The labels-only linear model.")
    propagate: PropagateConfig = Field(
        default_factory=PropagateConfig, description="Spreading labels over neighbors."
    )
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="The network that is trained.")
    optimization: OptimizationConfig = Field(
        default_factory=OptimizationConfig, description="How the network's steps are taken."
    )
    augment: AugmentConfig = Field(
        default_factory=AugmentConfig, description="What may be changed in a training image."
    )
    joint: JointConfig = Field(
        default_factory=JointConfig, description="Training on labeled and unlabeled images together."
    )
    pretrain: PretrainRungConfig = Field(
        default_factory=PretrainRungConfig,
        description="The network learns from the unlabeled images alone first.",
    )
    noisy_student: NoisyStudentConfig = Field(
        default_factory=NoisyStudentConfig,
        description="The best model so far labels all and teaches a student.",
    )
    extra: ExtraConfig = Field(
        default_factory=ExtraConfig, description="Labeled images of another origin beside the data."
    )
    choose: ChooseConfig = Field(default_factory=ChooseConfig, description="How rungs are compared.")
    log: LogConfig = Field(default_factory=LogConfig, description="Where the figures of training go.")
    replay: ReplayConfig = Field(
        default_factory=ReplayConfig, description="What a run's clock settled; nothing to fill in by hand."
    )

    @field_validator("rungs")
    @classmethod
    def _rungs(cls, value: str) -> str:
        for name in listed(value) if value != "auto" else ():
            check_name(name, "a rung", SUPPORTED_RUNGS)
        return value

    @field_validator("method")
    @classmethod
    def _method(cls, value: str) -> str:
        if value != "auto":
            check_method(value)
        return value

    @property
    def rung_names(self) -> tuple[str, ...]:
        """The rungs asked for, in order.

        Always with the probe, which every other rung is measured against; a method asks for the joint rung.
        """
        asked = {"probe", *(SUPPORTED_RUNGS if self.rungs == "auto" else listed(self.rungs))}
        if self.method != "auto":
            asked.add("joint")
        return tuple(name for name in SUPPORTED_RUNGS if name in asked)
