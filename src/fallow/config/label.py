"""Everything `fallow label` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from fallow.config.base import Auto
from fallow.config.frozen import EmbedConfig, ProbeConfig, PropagateConfig
from fallow.config.names import check_name, listed
from fallow.config.outside import ClassNames, InputConfig, Outputs
from fallow.config.run import RunConfig
from fallow.config.train import ChooseConfig, TrainConfig

LABEL_FORMATS = (
    "csv",
    "same",
    "list",
    "parquet",
    "folders",
    "label-studio",
    "coco",
    "fiftyone",
    "huggingface",
)
DEFAULT_PRECISION = 0.95
MOST_ROUNDS = 5
_Share = Annotated[float, Field(gt=0, lt=1)]


class LabelConfig(RunConfig):
    """Everything `fallow label` can be told."""

    first_sight: ClassVar[tuple[str, ...]] = ("embed",)

    out: Path | None = Field(
        None, description="A new or empty folder for the labels. Default: a new one in runs/."
    )
    model: str = Field(
        "",
        description="Who names the images: a run directory, an ONNX file, or the name of a timm model; several, comma separated, "
        "vote. Default: a model made in seconds of the labels given.",
    )
    precision: _Share | Auto = Field(
        "auto",
        description="Share of the accepted labels that is to be right, as estimated. auto: "
        f"{DEFAULT_PRECISION:g}, unless a coverage is asked for.",
    )
    coverage: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Share of the unlabeled images to accept, the surest ones, instead of a precision."
    )
    certify: bool = Field(
        False,
        description="Accept only as many as can be shown to be right that often: the lower 95 % bound must reach the precision.",
    )
    rounds: int = Field(
        1,
        ge=1,
        le=MOST_ROUNDS,
        description="How often to label: each further round learns from what the one before accepted, and is kept if it is better on "
        f"held-out labels. 1 to {MOST_ROUNDS}.",
    )
    format: str = Field(
        "csv",
        description=f"What to write, comma separated: {', '.join(LABEL_FORMATS)}. csv is always written; same: as the data came.",
    )
    files: Literal["link", "copy"] = Field(
        "link", description="How images get into folders that are written: link or copy."
    )
    foreign: Literal["auto", "keep"] = Field(
        "auto", description="Images that seem to be of no class. auto: set aside; keep: labeled like others."
    )
    outputs: Outputs = "auto"
    classes: ClassNames = None
    embed: EmbedConfig = Field(default_factory=EmbedConfig, description="How images become vectors.")
    input: InputConfig = Field(default_factory=InputConfig, description="How your model is fed.")
    probe: ProbeConfig = Field(default_factory=ProbeConfig, description="The labels-only linear model.")
    propagate: PropagateConfig = Field(
        default_factory=PropagateConfig, description="Spreading labels over neighbors."
    )
    choose: ChooseConfig = Field(default_factory=ChooseConfig, description="How labels are held out.")

    @field_validator("format")
    @classmethod
    def _format(cls, value: str) -> str:
        for name in listed(value):
            check_name(name, "a format", LABEL_FORMATS)
        return value

    @field_validator("coverage")
    @classmethod
    def _one_target(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("precision", "auto") != "auto":
            raise ValueError("a precision was asked for too; give one of the two")
        return value

    @field_validator("certify")
    @classmethod
    def _certified_precision(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("coverage") is not None:
            raise ValueError("it goes with a precision; at a given coverage the precision is only measured")
        return value

    @property
    def models(self) -> tuple[str, ...]:
        """The models named: files, folders and names."""
        return tuple(name for name in listed(self.model) if name)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Those of the models that are neither files nor folders: timm models, which the cheap rungs look through."""
        return tuple(
            name
            for name in self.models
            if not Path(name).expanduser().exists()
            and not set(name) & {"/", "\\"}
            and not name.endswith(".onnx")
        )

    @property
    def target(self) -> float | None:
        """The precision asked for; None where a coverage was."""
        if self.coverage is not None:
            return None
        return DEFAULT_PRECISION if isinstance(self.precision, str) else self.precision

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats to write, the CSV first."""
        return tuple(dict.fromkeys(("csv", *listed(self.format))))

    def ladder(self) -> TrainConfig:
        """Return what the cheap rungs of the ladder are told, which label where no model is given."""
        shared = ("budget", "seed", "offline", "embed", "probe", "propagate", "choose")
        told = {name: getattr(self, name) for name in shared}
        if self.backbones:
            told["embed"] = self.embed.model_copy(update={"backbone": "+".join(self.backbones)})
        return TrainConfig(rungs="probe,propagate", **told)
