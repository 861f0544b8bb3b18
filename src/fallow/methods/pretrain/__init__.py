"""Learning from images alone: one file per method, on a few shared words (views, projector, teacher, queue, prototypes, masks)."""

from __future__ import annotations

from typing import Any

from fallow.errors import ConfigError, nearest
from fallow.methods.base import MethodInfo, options_of
from fallow.methods.pretrain.barlow_twins import BarlowTwins
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod, Teacher
from fallow.methods.pretrain.byol import BYOL
from fallow.methods.pretrain.clusterfit import ClusterFit
from fallow.methods.pretrain.deepcluster import DeepCluster
from fallow.methods.pretrain.dino import DINO
from fallow.methods.pretrain.distill import Distill
from fallow.methods.pretrain.ibot import IBOT
from fallow.methods.pretrain.jigsaw import Jigsaw
from fallow.methods.pretrain.lejepa import LeJEPA
from fallow.methods.pretrain.mae import MAE
from fallow.methods.pretrain.metric import PN, Circle, MultiSimilarity, Triplet
from fallow.methods.pretrain.moco import MoCo
from fallow.methods.pretrain.msn import MSN
from fallow.methods.pretrain.npid import NPID
from fallow.methods.pretrain.pirl import PIRL
from fallow.methods.pretrain.rotnet import RotNet
from fallow.methods.pretrain.simclr import SimCLR
from fallow.methods.pretrain.simsiam import SimSiam
from fallow.methods.pretrain.soft_neighbors import Lifted, SoftNN
from fallow.methods.pretrain.supcon import SupCon
from fallow.methods.pretrain.swav import SwAV
from fallow.methods.pretrain.vicreg import VICReg

_KINDS: tuple[type[PretrainMethod], ...] = (
    SimCLR,
    BarlowTwins,
    VICReg,
    BYOL,
    SimSiam,
    MoCo,
    SwAV,
    DINO,
    IBOT,
    MSN,
    MAE,
    LeJEPA,
    SupCon,
    Triplet,
    MultiSimilarity,
    Circle,
    SoftNN,
    Lifted,
    PN,
    NPID,
    RotNet,
    ClusterFit,
    Distill,
    DeepCluster,
    Jigsaw,
    PIRL,
)
PRETRAIN: dict[str, type[PretrainMethod]] = {kind.info.name: kind for kind in _KINDS}
"""Pretraining methods by name."""


def pretrain_method(name: str, **options: Any) -> PretrainMethod:
    """Make a pretraining method.

    Args:
        name: One of `PRETRAIN`.
        options: Hyperparameters; see the method's class.

    Raises:
        ConfigError: There is no such method or option; the nearest is named.
    """
    if name not in PRETRAIN:
        raise ConfigError(
            f"There is no pretraining method '{name}'; there are {', '.join(PRETRAIN)}.{nearest(name, PRETRAIN)}"
        )
    known = options_of(PRETRAIN[name])
    for key in options:
        if key not in known:
            raise ConfigError(f"'{key}' is not an option of {name}.{nearest(key, known)}")
    return PRETRAIN[name](**options)


def pretrain_infos() -> tuple[MethodInfo, ...]:
    """Return how each pretraining method describes itself."""
    return tuple(kind.info for kind in PRETRAIN.values())


__all__ = [
    "BYOL",
    "DINO",
    "IBOT",
    "MAE",
    "MSN",
    "NPID",
    "PIRL",
    "PN",
    "PRETRAIN",
    "BarlowTwins",
    "Circle",
    "ClusterFit",
    "DeepCluster",
    "Distill",
    "Jigsaw",
    "LeJEPA",
    "Lifted",
    "MoCo",
    "MultiSimilarity",
    "PretrainContext",
    "PretrainMethod",
    "RotNet",
    "SimCLR",
    "SimSiam",
    "SoftNN",
    "SupCon",
    "SwAV",
    "Teacher",
    "Triplet",
    "VICReg",
    "options_of",
    "pretrain_infos",
    "pretrain_method",
]
