"""Backbones that a run left for others: a folder with plain weights and what they belong to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fallow.errors import ConfigError, WeightsError
from fallow.models.torchvision_nets import PREFIX
from fallow.models.weights import read_state

BACKBONE = "backbone"
"""The ``kind`` of such a folder in its ``model.json``."""
TENSORS, META = "model.safetensors", "model.json"


def backbone_folder(name: str) -> Path | None:
    """Return the folder that a backbone's name means, a pretraining run or its ``model/``; None: it means no folder.

    Raises:
        ConfigError: It can mean nothing but a folder, and there is none, or it holds no backbone.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        if "/" in name and not name.startswith(("hf_hub:", "hf-hub:", PREFIX)):
            raise ConfigError(
                f"there is no folder '{name}' with a backbone: give a run of  fallow pretrain, its model/ folder, or the "
                "name of a timm model"
            )
        return None
    for folder in (path, path / "model"):
        if _meta(folder).get("kind") == BACKBONE:
            return folder
    if not any(mark in name for mark in ("/", ".")) and not (path / META).is_file():
        return None  # a folder that happens to be called like a model
    raise ConfigError(
        f"'{name}' holds no backbone: give a finished run of  fallow pretrain, or its model/ folder"
    )


def saved_meta(folder: Path) -> dict[str, Any]:
    """Return what a backbone's folder says of it.

    Raises:
        WeightsError: It lacks something.
    """
    meta = _meta(folder)
    lacking = [key for key in ("architecture", "size", "mean", "std", "own") if key not in meta]
    if lacking:
        raise WeightsError(
            f"'{folder / META}' is incomplete (it lacks {', '.join(lacking)}): copy the whole folder again"
        )
    return meta


def load_saved(name: str, folder: Path) -> Any:
    """Return the backbone in ``folder``, called ``name``.

    Raises:
        ConfigError: It is a user's own network, which only its code can rebuild.
        WeightsError: A file is missing or damaged, or the weights do not fit.
    """
    from fallow.models.backbones import backbone_from_state

    meta = saved_meta(folder)
    if meta["own"]:
        raise ConfigError(
            f"'{name}' holds a network of your own ({meta['architecture']}), which only its code can rebuild: load "
            f"'{folder / TENSORS}' into it and hand it in as model="
        )
    file = folder / TENSORS
    backbone = backbone_from_state(
        name,
        read_state(file),
        f"'{file}'",
        architecture=meta["architecture"],
        size=int(meta["size"]),
        mean=tuple(meta["mean"]),
        std=tuple(meta["std"]),
    )
    return replace(backbone, note=f"the run in {folder}", lasting=True)


def _meta(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
