"""Everything `fallow suggest` can be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fallow.config.forecast import FrozenConfig


class SuggestConfig(FrozenConfig):
    """Everything `fallow suggest` can be told."""

    n: Annotated[int, Field(ge=1, le=100_000)] = Field(50, description="How many images to suggest.")
