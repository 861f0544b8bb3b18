"""torchvision's classification networks as backbones: ``torchvision/resnet18``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fallow.errors import ConfigError, WeightsError, nearest

PREFIX = "torchvision/"
"""What the names of these backbones begin with."""
_HEADS = ("fc", "classifier", "head", "heads")


def is_torchvision(name: str) -> bool:
    """Say whether a name means one of torchvision's networks."""
    return name.startswith(PREFIX)


def build(name: str) -> nn.Module:
    """Return a network without weights that gives features: its last linear layer is gone.

    Raises:
        ConfigError: torchvision has no such network, or it does not end in a linear layer.
    """
    import torchvision

    own, (path, _, last) = _known(name), classifier_of(name).rpartition(".")
    module: nn.Module = torchvision.models.get_model(own, weights=None, **_quiet(own))
    setattr(module.get_submodule(path), last, nn.Identity())
    return module


@cache
def classifier_of(name: str) -> str:
    """Return the full name of a network's last linear layer; no weights are made to find out.

    Raises:
        ConfigError: There is no such network, or it has no such layer.
    """
    import torchvision

    own = _known(name)
    with torch.device("meta"):
        module = torchvision.models.get_model(own, weights=None, **_quiet(own))
    found = [
        key
        for key, part in module.named_modules()
        if isinstance(part, nn.Linear) and key.split(".")[0] in _HEADS
    ]
    if not found:
        raise ConfigError(
            f"the backbone '{name}' does not end in a linear layer, so that its features cannot be told: choose another"
        )
    return found[-1]


def pretrained_state(name: str, offline: bool) -> tuple[dict[str, torch.Tensor], str]:
    """Return torchvision's own weights without those of the last layer, and where they come from.

    Raises:
        WeightsError: They are not on this machine and may not, or cannot, be fetched.
    """
    import torchvision

    weights = torchvision.models.get_model_weights(_known(name)).DEFAULT
    kept = Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rsplit("/", 1)[-1]
    if offline and not kept.is_file():
        raise WeightsError(
            f"no weights for '{name}': they are not on this machine and the run is offline; give a file with --weights FILE"
        )
    try:
        state: dict[str, torch.Tensor] = dict(weights.get_state_dict(progress=False, check_hash=True))
    except Exception as error:  # network, disk, hash: whatever lies beneath
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights of '{name}' could not be fetched from {weights.url} ({reason}): try again, or give a file with --weights FILE"
        ) from error
    return without_classifier(name, state), f"{weights.url}"


def without_classifier(name: str, state: dict[str, Any]) -> dict[str, Any]:
    """Return tensors without those of the last linear layer."""
    key = classifier_of(name)
    return {k: v for k, v in state.items() if k not in (f"{key}.weight", f"{key}.bias")}


def snippet(name: str) -> list[str]:
    """Return the lines that load the weights into an untouched network of torchvision's."""
    own = _known(name)
    *holders, last = classifier_of(name).split(".")
    path = "network" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in holders)
    place = f"{path}[{last}]" if last.isdigit() else f"{path}.{last}"
    extra = "".join(f", {k}={v}" for k, v in _quiet(own).items())
    return [
        "import torch, torchvision; from safetensors.torch import load_file",
        f'network = torchvision.models.get_model("{own}", weights=None{extra})',
        f"{place} = torch.nn.Identity()",
        'network.load_state_dict(load_file("model.safetensors"))',
    ]


def takes_one_size(module: nn.Module) -> int | None:
    """Return the side that a network is made for where it takes no other."""
    size = getattr(module, "image_size", None)
    return int(size) if isinstance(size, int) else None


def _quiet(own: str) -> dict[str, bool]:
    """Return what keeps a network from having a second output, and from taking its time to draw weights."""
    return {"aux_logits": False, "init_weights": False} if own in ("googlenet", "inception_v3") else {}


def _known(name: str) -> str:
    import torchvision

    own, known = name.removeprefix(PREFIX), torchvision.models.list_models(module=torchvision.models)
    if own not in known:
        raise ConfigError(
            f"torchvision has no classification network '{own}': give one of its names, such as torchvision/resnet18."
            f"{nearest(own, known)}"
        )
    return own
