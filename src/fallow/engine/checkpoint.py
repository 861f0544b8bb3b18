"""A run that was killed goes on where it was: weights, average, optimizer, method and the step, in one atomic file."""

from __future__ import annotations

import json
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


def save_checkpoint(
    path: Path,
    module: nn.Module,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
    step: int,
    extra: dict[str, Any],
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
        tensors |= {_EMA + k: v for k, v in ema.module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"{_OPTIMIZER}{number}.{k}": torch.as_tensor(v) for k, v in state.items() if v is not None
        }
    meta = {
        "settings": settings.to_json(),
        "step": step,
        "ema_updates": 0 if ema is None else ema.updates,
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
) -> tuple[int, dict[str, Any]]:
    """Restore what `save_checkpoint` wrote and return the steps that are done and the caller's values.

    A file that is missing, damaged or of other settings is step 0: the fit starts again.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("loop", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError):
        return 0, {}
    if not isinstance(meta, dict) or meta["settings"] != settings.to_json():
        return 0, {}
    module.load_state_dict(_part(tensors, _MODEL))
    if ema is not None:
        ema.module.load_state_dict(_part(tensors, _EMA))
        ema.updates = int(meta["ema_updates"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, _OPTIMIZER).items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(meta["step"]), dict(meta["extra"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
