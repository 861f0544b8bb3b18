"""Everything `fallow pretrain` can be told."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from fallow.config.base import Auto, Section
from fallow.config.frozen import View
from fallow.config.names import PRETRAIN_METHODS, check_name
from fallow.config.run import LogConfig, RunConfig
from fallow.config.trained import Share, StartConfig, StepsConfig


class PretrainNetworkConfig(StartConfig):
    """The network that learns from images alone."""

    trainable: Literal["auto", "last", "all"] = Field(
        "auto",
        description="What may change: last (the last blocks), or all. auto: all from scratch, else by what the budget holds.",
    )


class PretrainStepsConfig(StepsConfig):
    """How the steps are taken."""

    lr: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto",
        description="Highest learning rate, at the end of the warm-up. auto: by where the network starts and the batch.",
    )
    batch_size: Annotated[int, Field(ge=2, le=65536)] | Auto = Field(
        "auto", description="Images a step, over all processes. auto: by images, network and memory."
    )
    ema_decay: Share | Auto = Field(
        "auto",
        description="How slowly a teacher that is the network's average follows it at first (0: it is the network of the step "
        "before), or the average that is kept (0: none). auto: by the paper and the number of steps.",
    )


class ViewsConfig(Section):
    """How the views of an image are made that a network learns to tell belong together."""

    moves: View | Auto = Field(
        "auto",
        description="What keeps what an image shows: none, flip (left-right), turns (quarter turns and flips). auto: flip for "
        "color images; none for gray ones, which are often writing.",
    )


class PretrainReplayConfig(Section):
    """What the clock of a run settled: written into its ``config.yaml``, so that a replay does the same."""

    data: str = Field("", description="Fingerprint of the data; on other data nothing here counts.")
    cut: int | None = Field(None, description="Step at which the clock ended the training.")
    judging: dict[str, int | None] = Field(
        default_factory=dict, description="How many images and probes the clock left time to judge by."
    )


class PretrainConfig(RunConfig):
    """Everything `fallow pretrain` can be told."""

    first_sight: ClassVar[tuple[str, ...]] = ("network",)

    method: str = Field(
        "auto",
        description=f"How the network learns: {', '.join(PRETRAIN_METHODS)}. auto: by images, network and budget. Its own "
        "values are set by --set options.NAME=VALUE.",
    )
    teacher: str = Field(
        "auto",
        description="The frozen network that distill and clusterfit learn from: a timm name, or the folder of a run of fallow "
        "pretrain. auto: the weights that learning starts from; of a network from scratch, the pretrained one at hand.",
    )
    network: PretrainNetworkConfig = Field(
        default_factory=PretrainNetworkConfig, description="The network that learns."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Values of the method's own, by name.")
    optimization: PretrainStepsConfig = Field(
        default_factory=PretrainStepsConfig, description="How the network's steps are taken."
    )
    views: ViewsConfig = Field(default_factory=ViewsConfig, description="How the views of an image are made.")
    log: LogConfig = Field(default_factory=LogConfig, description="Where the figures of training go.")
    replay: PretrainReplayConfig = Field(
        default_factory=PretrainReplayConfig,
        description="What a run's clock settled; nothing to fill in by hand.",
    )

    @field_validator("method")
    @classmethod
    def _method(cls, value: str) -> str:
        if value != "auto":
            check_name(value, "a method", PRETRAIN_METHODS)
        return value
