"""Low-rank adapters: small matrices beside frozen layers, that are added into their weights when training ends.

LoRA (Hu et al. 2021, arXiv 2106.09685, sec. 4.1): a layer's weight W becomes W + (alpha / r) B A, of which A (r x in) and B
(out x r) learn; B starts at zero, so that the network starts as it was. The layers are those of peft. Once merged the network is as
plain as before, and nothing that comes after needs to know.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from fallow.errors import ConfigError

RANK = 8
"""Of the matrices, peft's default; the paper finds 4 to 8 enough in its tables 6 and 18."""
_ALPHA = 16.0
_LEAST_SHARE = 0.1
"""Share of the weights below which adapters could change next to nothing (ResNet-18: 2 %)."""
_KEPT = ("lora_A", "lora_B")


def has_peft() -> bool:
    """Say whether the library of adapters is installed."""
    from importlib.util import find_spec

    return find_spec("peft") is not None


def add_adapters(module: nn.Module, seed: int = 0) -> tuple[str, ...]:
    """Put adapters beside all linear layers and 1 x 1 convolutions of a network, in place; everything else is frozen.

    Args:
        module: The network; it computes what it did before.
        seed: Of the first matrix of each adapter.

    Returns:
        Names of the submodules that learn.

    Raises:
        ConfigError: peft is not installed, or there is no such layer.
    """
    if not has_peft():
        raise ConfigError(
            "network.trainable=lora needs peft: pip install 'fallow[lora]', or take head, last or all"
        )
    names = [name for name, part in module.named_modules() if name and _takes_adapter(part)]
    whole = sum(weight.numel() for weight in module.parameters())
    known = sum(module.get_parameter(f"{name}.weight").numel() for name in names)
    if not names or known < _LEAST_SHARE * whole:
        raise ConfigError(
            "network.trainable=lora: the network has no linear layer and no 1 x 1 convolution that an adapter could stand beside, "
            f"or they hold less than {_LEAST_SHARE:.0%} of its weights; take last or all"
        )
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=RANK, lora_alpha=_ALPHA, lora_dropout=0.0, target_modules=names)
    with torch.random.fork_rng(devices=[]):  # the adapters are the same whatever was drawn before
        torch.manual_seed(seed)
        inject_adapter_in_model(config, module)
    module.requires_grad_(False)
    return tuple(
        f"{name}.{part}" for name, layer in module.named_modules() if _is_adapted(layer) for part in _KEPT
    )


def merged(module: nn.Module) -> nn.Module:
    """Return a copy of a network with its adapters added into the weights, and no trace of them."""
    made = copy.deepcopy(module)
    for name, layer in list(made.named_modules()):
        if not _is_adapted(layer):
            continue
        layer.merge()
        holder, _, own = name.rpartition(".")
        setattr(made.get_submodule(holder), own, layer.get_base_layer())
    return made


def is_adapted(module: nn.Module) -> bool:
    """Say whether a network has adapters."""
    return any(_is_adapted(part) for part in module.modules())


def _is_adapted(part: Any) -> bool:
    return isinstance(part, nn.Module) and hasattr(part, "lora_A") and hasattr(part, "get_base_layer")


def _takes_adapter(part: nn.Module) -> bool:
    if isinstance(part, nn.Linear):
        return True
    return isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.groups == 1
