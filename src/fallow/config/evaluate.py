"""Everything `fallow evaluate` can be told about judging features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from fallow.config.base import Auto, Section, WeightsFile
from fallow.config.names import check_name, listed

QUICK = ("knn", "linear", "low-shot", "clusters", "retrieval")
"""Protocols of seconds."""
PROTOCOLS = (*QUICK, "svm", "mlp", "finetune")
"""In the order in which they are measured and told."""
GROUPS = {"quick": QUICK, "all": PROTOCOLS}


class FeaturesConfig(Section):
    """How the features of a backbone are judged."""

    probe: str = Field(
        "quick",
        description=f"Protocols, comma separated: {', '.join(PROTOCOLS)}; quick is the first five, all is all of them.",
    )
    against: str | None = Field(
        None, description="Another backbone: each figure is compared, image by image, on the same draws."
    )
    split: Literal["auto", "train", "val", "test"] = Field(
        "auto",
        description="What is judged. auto: test, or all that is labeled where there is none.",
    )
    size: Annotated[int, Field(ge=8, le=1024)] | Auto = Field(
        "auto",
        description="Side in pixels that the network sees. auto: its own, or by image size and device.",
    )
    weights: WeightsFile = Field(
        None, description="File with the weights of the first backbone (.safetensors, .pt, .pth)."
    )
    images: Annotated[int, Field(ge=10)] = Field(
        20_000, description="At most so many labeled images are judged, and learned from."
    )
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        300, description="Steps of each fit of finetune, which trains the whole network: slow on a CPU."
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of everything random.")
    offline: bool = Field(False, description="Never reach for a model hub; use weights on disk only.")
    out: Path | None = Field(None, description="A new or empty folder for probe.json and probe.html.")

    @field_validator("against")
    @classmethod
    def _against(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("give a backbone: a timm name, pixels, or the folder of a run")
        return value

    @field_validator("probe")
    @classmethod
    def _probe(cls, value: str) -> str:
        for name in listed(value):
            check_name(name, "a protocol", (*GROUPS, *PROTOCOLS))
        return value

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols asked for, each once, in order."""
        asked = {one for name in listed(self.probe) for one in GROUPS.get(name, (name,))}
        return tuple(name for name in PROTOCOLS if name in asked)
