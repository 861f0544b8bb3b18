"""Everything `fallow train` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from fallow.config.base import Auto, Section
from fallow.config.frozen import EmbedConfig, ProbeConfig, PropagateConfig
from fallow.config.names import LOGGERS, LONG_TAIL, METHODS, SUPPORTED_RUNGS, check_method, check_name, listed
from fallow.config.parse import parse_duration
from fallow.config.trained import (
    AugmentConfig,
    JointConfig,
    NetworkConfig,
    NoisyStudentConfig,
    OptimizationConfig,
)

_LARGEST_SEED = 2**32 - 1  # what the random generators of all libraries take


class ChooseConfig(Section):
    """How rungs are compared."""

    folds: Annotated[int, Field(ge=2, le=20)] | Auto = Field(
        "auto", description="Folds of the held-out labels. auto: the smallest class up to 5."
    )
    repeats: Annotated[int, Field(ge=1, le=50)] | Auto = Field(
        "auto",
        description="Repeats of the fold assignment. auto: more with fewer labels, as the budget allows.",
    )


class LogConfig(Section):
    """Where the figures of training go."""

    to: str = Field(
        "jsonl",
        description="Loggers, comma separated: jsonl (a file in the run, always written), tensorboard, wandb, mlflow.",
    )

    @field_validator("to")
    @classmethod
    def _to(cls, value: str) -> str:
        for name in listed(value):
            check_name(name, "a logger", LOGGERS)
        return value

    @property
    def trackers(self) -> tuple[str, ...]:
        """The loggers asked for beside the JSON lines."""
        return self.loggers[1:]

    @property
    def loggers(self) -> tuple[str, ...]:
        """The loggers asked for, always with the JSON lines that the run itself reads."""
        asked = {LOGGERS[0], *listed(self.to)}
        return tuple(name for name in LOGGERS if name in asked)


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
        "auto", description=f"Rungs to try, comma separated: {','.join(SUPPORTED_RUNGS)}. auto: all that fit."
    )
    method: str = Field(
        "auto",
        description=f"Method of the joint rung: {', '.join(METHODS)}; with {LONG_TAIL} behind it for classes of "
        f"unequal size. auto: {METHODS[0]}.",
    )
    seed: int = Field(0, ge=0, le=_LARGEST_SEED, description="Seed of everything random.")
    offline: bool = Field(False, description="Never reach for a model hub; use weights on disk only.")
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
    noisy_student: NoisyStudentConfig = Field(
        default_factory=NoisyStudentConfig,
        description="The best model so far labels all and teaches a student.",
    )
    choose: ChooseConfig = Field(default_factory=ChooseConfig, description="How rungs are compared.")
    log: LogConfig = Field(default_factory=LogConfig, description="Where the figures of training go.")
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
    def seconds(self) -> float:
        """The budget in seconds."""
        return parse_duration(self.budget)

    @property
    def rung_names(self) -> tuple[str, ...]:
        """The rungs asked for, in order.

        Always with the probe, which every other rung is measured against; a method asks for the joint rung.
        """
        asked = {"probe", *(SUPPORTED_RUNGS if self.rungs == "auto" else listed(self.rungs))}
        if self.method != "auto":
            asked.add("joint")
        return tuple(name for name in SUPPORTED_RUNGS if name in asked)
