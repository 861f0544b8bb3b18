"""Activations computed twice instead of kept: less memory, a third more time, the same gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from fallow.errors import ConfigError


def recompute(network: nn.Module, enable: bool) -> None:
    """Let a network compute the activations inside of its blocks again for the gradient, or stop it.

    Raises:
        ConfigError: The network cannot.
    """
    able = [part for part in network.modules() if hasattr(part, "set_grad_checkpointing")]
    try:
        if not able:
            raise AssertionError
        able[0].set_grad_checkpointing(enable)  # type: ignore[operator]
    except (AssertionError, NotImplementedError) as error:  # what timm's networks raise that cannot
        raise ConfigError(
            "the network cannot compute its activations twice: leave optimization.gradient_checkpointing out, or take "
            "another network (network.backbone)"
        ) from error


@contextmanager
def statistics_stand_still(module: nn.Module) -> Iterator[None]:
    """Let what is computed again count once in the running statistics of BatchNorm."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in kept:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count
