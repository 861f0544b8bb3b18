"""What the machine can compute with, and how many processes were started to train together."""

from __future__ import annotations

import os

from fallow.errors import ConfigError


def process_count() -> int:
    """Return how many processes torchrun or srun started to train together; 1 without them."""
    # Of Slurm, the tasks of this step: a batch job may have asked for many and run one process.
    return int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", "1")))


def process_rank() -> int:
    """Return which of these processes this one is, from 0."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) if process_count() > 1 else 0


def check_precision(precision: str, device: str) -> None:
    """Make sure that a device computes with the numbers that were asked for, and with no others in their place.

    Args:
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        device: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigError: It does not.
    """
    if precision == "fp16" and device == "cpu":
        raise ConfigError(
            "'optimization.precision' is fp16, which a CPU cannot train with: take bf16 or fp32, or leave it out"
        )
