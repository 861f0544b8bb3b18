"""Keys of what learns on frozen vectors: embedding, probe, propagation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fallow.config.base import Auto, Section, WeightsFile

View = Literal["none", "flip", "turns"]


class EmbedConfig(Section):
    """How images become vectors."""

    backbone: str = Field(
        "auto",
        description="timm model name, `torchvision/NAME`, `pixels` (no network, small images), the folder of a `fallow pretrain` run, or several "
        "joined by `+`. "
        "auto: what is at hand, by image size; on small gray images the pixels vote too.",
    )
    weights: WeightsFile = Field(
        None, description="File with the backbone's weights (.safetensors, .pt, .pth), loaded strictly."
    )
    size: Annotated[int, Field(ge=8, le=1024)] | Auto = Field(
        "auto", description="Side in pixels of the square the backbone sees. auto: by image size and device."
    )
    views: View | Auto = Field(
        "auto",
        description="What may be done to an image without changing its class: none, flip (left-right), turns "
        "(quarter turns and flips). auto: those that keep the class, measured on the images.",
    )

    @field_validator("backbone")
    @classmethod
    def _backbone(cls, value: str) -> str:
        parts = [part.strip() for part in value.split("+")]
        if not all(parts) or len(set(parts)) < len(parts):
            raise ValueError("give one name, or different names joined by +, as in resnet18+pixels")
        return value

    @field_validator("weights")
    @classmethod
    def _weights(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        parts = [part.strip() for part in str(info.data.get("backbone", "auto")).split("+")]
        if "pixels" in parts:
            raise ValueError("the backbone 'pixels' has no weights; leave them out, or take another backbone")
        if len(parts) > 1:
            raise ValueError("weights belong to one backbone; give one name as the backbone")
        return value


class ProbeConfig(Section):
    """The labels-only linear model on the vectors."""

    strength: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto", description="Inverse L2 penalty (C). auto: 30 below 100 labels, cross-fitted above."
    )


class PropagateConfig(Section):
    """Spreading labels over the neighbor graph."""

    neighbors: Annotated[int, Field(ge=1, le=1000)] | Auto = Field(
        "auto", description="Neighbors of each image in the graph. auto: 10."
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] | Auto = Field(
        "auto", description="How far labels travel: 0 stays, 1 goes everywhere. auto: 0.98."
    )
