"""Everything `fallow embed` and `fallow find` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fallow.config.base import Auto, Section, WeightsFile
from fallow.config.frozen import View


class GalleryConfig(Section):
    """How images become vectors that can be looked up."""

    model: str = Field(
        "auto",
        description="A timm model, torchvision/NAME, pixels, or the folder of a run; several joined by +. auto: as `fallow train` has it.",
    )
    weights: WeightsFile = Field(None, description="File with the model's weights (.safetensors, .pt, .pth).")
    size: Annotated[int, Field(ge=8, le=1024)] | Auto = Field(
        "auto", description="Side in pixels that the model sees. auto: its own, or by image size and device."
    )
    views: View = Field(
        "none", description="Views that a vector is the mean of: none, flip, or turns (eight of them)."
    )
    map: Literal["auto", "umap", "tsne", "none"] = Field(
        "auto", description="How the map is laid out. auto: UMAP where umap-learn is installed, else t-SNE."
    )
    index: bool = Field(
        False,
        description="Also write an approximate index, for hundreds of thousands of images (needs usearch).",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the map and of which images are shown.")
    offline: bool = Field(False, description="Never reach for a model hub; use weights on disk only.")
    out: Path | None = Field(
        None, description="A new or empty folder for what is made. Default: a new one in runs/."
    )


class LookupConfig(Section):
    """How the nearest images are looked up."""

    k: Annotated[int, Field(ge=1, le=1000)] = Field(5, description="How many of the nearest images.")
    threshold: Annotated[float, Field(ge=0, le=2)] | Literal["auto", "none"] = Field(
        "auto",
        description="Cosine distance beyond which there is no match. auto: 95 % of matches are "
        "right, as measured among the embedded images themselves; none: all match.",
    )
    precision: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Take the threshold at which so many of the matches are of the right class, instead.",
    )
