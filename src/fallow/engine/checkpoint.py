"""A run that was killed goes on where it was: weights, average, optimizer, method and the step, in one atomic file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fallow.engine.ema import Ema
from fallow.engine.settings import LoopSettings
from fallow.record.rundir import write_bytes

_MODEL, _EMA, _OPTIMIZER = "model.", "ema.", "optimizer."
_Extra = dict[str, Any]


def save_checkpoint(
    path: Path,
    module: nn.Module,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
    step: int,
    extra: _Extra,
) -> None:
    """Write everything that the next step depends on, atomically.

    Nothing random is kept: what a step draws depends on the seed and its number.

    Args:
        path: The file.
        module: Network and method.
        ema: Their moving average.
        optimizer: Its state is kept by the position of the parameter.
        settings: A checkpoint of other settings is not gone on from.
        step: Steps that are done.
        extra: Plain values of the caller.
    """
    tensors = {_MODEL + k: v for k, v in module.state_dict().items()}
    if ema is not None:
        tensors |= {_EMA + k: v for k, v in ema.tensors.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"{_OPTIMIZER}{number}.{k}": torch.as_tensor(v) for k, v in state.items() if v is not None
        }
    meta = {
        **_identity(module, settings),
        "step": step,
        "ema_updates": 0 if ema is None else ema.updates,
        "groups": [_numbers(group) for group in optimizer.param_groups],
        "extra": extra,
    }
    own = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_bytes(path, save(own, {"loop": json.dumps(meta)}))


def load_checkpoint(
    path: Path,
    module: nn.Module,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
) -> tuple[int, _Extra]:
    """Restore what `save_checkpoint` wrote and return the steps that are done and the caller's values.

    A file that is missing, damaged, or of other settings or another network or method is step 0: the fit starts again, and
    nothing of the file is taken.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("loop", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if not _whole(meta, tensors, module, ema, settings):
            return 0, {}
    except (SafetensorError, OSError, ValueError):
        return 0, {}
    module.load_state_dict(_part(tensors, _MODEL))
    if ema is not None:
        with torch.no_grad():
            for name, tensor in _part(tensors, _EMA).items():
                ema.tensors[name].copy_(tensor)
        ema.updates = int(meta["ema_updates"])
    _restore(optimizer, _part(tensors, _OPTIMIZER), meta["groups"])
    return int(meta["step"]), dict(meta["extra"])


def _restore(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, float]]
) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        like = parameters[int(number)]
        if tensor.shape == like.shape:  # laid out as the weight is: sums come out the same to the bit
            tensor = torch.empty_like(like).copy_(tensor)
        state.setdefault(int(number), {})[key] = tensor
    now = optimizer.state_dict()
    # Some optimizers count their steps in the group and not beside each weight.
    found = [{**group, **kept} for group, kept in zip(now["param_groups"], groups, strict=True)]
    optimizer.load_state_dict({"param_groups": found, "state": state})


def _identity(module: nn.Module, settings: LoopSettings) -> _Extra:
    """Return what a checkpoint must share with the loop that goes on from it."""
    return {"settings": settings.to_json(), "modules": zlib.crc32(repr(module).encode())}


def _whole(
    meta: Any, tensors: Mapping[str, Tensor], module: nn.Module, ema: Ema | None, settings: LoopSettings
) -> bool:
    """Say whether a file is a checkpoint of just this fit."""
    if not isinstance(meta, dict) or not _identity(module, settings).items() <= meta.items():
        return False
    if not {"step", "ema_updates", "groups", "extra"} <= meta.keys():
        return False
    wanted = {_MODEL + name: tensor for name, tensor in module.state_dict().items()}
    wanted |= {_EMA + name: tensor for name, tensor in (ema.tensors if ema is not None else {}).items()}
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith(_OPTIMIZER)}
    return _shapes(wanted) == _shapes(found)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _numbers(group: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a group of parameters."""
    found = {k: v.item() if isinstance(v, Tensor) else v for k, v in group.items() if k != "params"}
    return {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
