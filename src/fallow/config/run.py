"""What every run can be told: its budget, its folder, its seed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from fallow.config.base import Section
from fallow.config.names import LOGGERS, check_name, listed
from fallow.config.parse import parse_duration

_LARGEST_SEED = 2**32 - 1  # what the random generators of all libraries take


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


class RunConfig(Section):
    """What every run can be told."""

    budget: str = Field("10m", description="Wall clock for the whole run: 90s, 10m, 2h.")
    out: Path | None = Field(
        None, description="A new or empty folder for the run. Default: a new one in runs/."
    )
    seed: int = Field(0, ge=0, le=_LARGEST_SEED, description="Seed of everything random.")
    offline: bool = Field(False, description="Never reach for a model hub; use weights on disk only.")

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        parse_duration(value)
        return value

    @property
    def seconds(self) -> float:
        """The budget in seconds."""
        return parse_duration(self.budget)
