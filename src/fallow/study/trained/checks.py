"""What cannot be trained as it was asked for is told before time is spent."""

from __future__ import annotations

from torch import nn

from fallow.engine.machine import check_precision
from fallow.engine.recompute import recompute
from fallow.errors import ConfigError
from fallow.models import from_backbone, pick_device
from fallow.study.context import RungContext
from fallow.study.trained.network import NetworkPlan, starting_network

_LEAST_PART = 2
_FEWEST, _MOST = 8, 32
"""Sizes of batches where none is asked for: by the number of labels that a fold leaves."""


def check_training(ctx: RungContext) -> NetworkPlan:
    """Return what will be trained, after making sure that it can be had, and can be trained as was asked for.

    It is built at the size it will see, and no image is run through it but the blank ones that tell its features.

    Raises:
        ConfigError: There is no such network, or it cannot be trained so.
        WeightsError: It has no weights, or they do not fit.
    """
    asked = ctx.config.optimization
    check_precision(asked.precision, pick_device("auto"))
    plan, start = starting_network(ctx)
    network = from_backbone(start, nn.Identity(), plan.size, trainable=plan.trainable)
    if asked.gradient_checkpointing:
        recompute(network, True)
    if _counts_batches(network):
        usual = min(_MOST, max(_FEWEST, len(ctx.data.y) // 2))  # half of the labels is what two folds leave
        batch = asked.batch_size if isinstance(asked.batch_size, int) else usual
        _check_parts(batch, asked.accumulate if isinstance(asked.accumulate, int) else 1)
    return plan


def _counts_batches(network: nn.Module) -> bool:
    """Say whether a part of the network that is trained normalizes by the images of a batch."""
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    return any(norm.training for norm in norms)


def _check_parts(batch: int, parts: int) -> None:
    """Make sure that every part of a batch holds two images, of which BatchNorm can tell mean and spread."""
    if -(-batch // parts) >= _LEAST_PART:
        return
    if parts == 1:
        raise ConfigError(
            f"'optimization.batch_size' is {batch}, and the network normalizes by the images of a batch: give "
            f"{_LEAST_PART} or more"
        )
    raise ConfigError(
        f"'optimization.accumulate' cuts batches of {batch} labeled images into {parts} parts of one, and the network "
        f"normalizes by the images of a part: lower it to {max(1, batch // _LEAST_PART)}, or give "
        f"optimization.batch_size={_LEAST_PART * parts} or more"
    )
