"""Everything `fallow forecast` can be told, and what it shares with every verb that trains no network."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from fallow.config.base import Auto
from fallow.config.frozen import EmbedConfig, ProbeConfig, PropagateConfig
from fallow.config.run import RunConfig
from fallow.config.train import TrainConfig

_MOST = 10_000_000
_SHARED = ("budget", "seed", "offline", "embed", "probe", "propagate")


class FrozenConfig(RunConfig):
    """What every verb can be told that looks at frozen vectors and trains no network."""

    first_sight: ClassVar[tuple[str, ...]] = ("embed",)

    embed: EmbedConfig = Field(default_factory=EmbedConfig, description="How images become vectors.")
    probe: ProbeConfig = Field(default_factory=ProbeConfig, description="The labels-only linear model.")
    propagate: PropagateConfig = Field(
        default_factory=PropagateConfig, description="Spreading labels over neighbors."
    )

    @property
    def of_rungs(self) -> TrainConfig:
        """The same, as the rungs read it."""
        return TrainConfig(rungs="probe,propagate", **{name: getattr(self, name) for name in _SHARED})


class ForecastConfig(FrozenConfig):
    """Everything `fallow forecast` can be told."""

    more: Annotated[int, Field(ge=1, le=_MOST)] | Auto = Field(
        "auto",
        description="How many more labels the first sentence is about. auto: as many again as there are, rounded.",
    )
    price_per_label: Annotated[float, Field(ge=0)] | None = Field(
        None, description="What one label costs, in any currency: the forecast is then told in money too."
    )
