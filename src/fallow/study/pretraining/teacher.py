"""Methods that learn from what a frozen network says of the images: which network that is, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fallow.config import EmbedConfig
from fallow.errors import ConfigError, RunError
from fallow.methods import PRETRAIN
from fallow.models import PIXELS, Backbone, Embedder, load_backbone
from fallow.study.bank import SpaceBank
from fallow.study.plan import automatic_backbones, usual_size
from fallow.study.trained.network import NetworkPlan

if TYPE_CHECKING:
    from fallow.study.pretraining.plan import Planner, PretrainPlan
    from fallow.study.pretraining.run import Pretraining


@dataclass(frozen=True)
class TeacherPlan:
    """The frozen network that is learned from.

    Attributes:
        name: timm name, the folder of a run, or the name of the network that learns: its weights as they are at the start.
        size: Side in pixels of what it sees.
        weights_id: Short hash of its weights.
    """

    name: str
    size: int
    weights_id: str


def plan_teacher(planner: Planner, network: NetworkPlan, method: str) -> TeacherPlan | None:
    """Return whom a method learns from; None where it asks for no teacher.

    Raises:
        ConfigError: A teacher is given and not asked for, or asked for and not to be had.
        WeightsError: It has no weights, or they do not fit.
    """
    asked = planner.config.teacher
    if PRETRAIN[method].asks != "teacher":
        if asked != "auto":
            those = ", ".join(name for name, kind in PRETRAIN.items() if kind.asks == "teacher")
            raise ConfigError(
                f"teacher={asked}: {method} learns from no teacher; leave it out, or take one of {those}"
            )
        return None
    name, why = asked, "Asked for."
    if asked == "auto":
        name, why = _usual_teacher(planner, network, method)
    if name == network.backbone and not network.scratch:
        found, size = planner.start(network), network.size
    else:
        bank = _own_bank(planner.bank, name)
        found, size = bank.backbone(name), usual_size(name, planner.data.audit.short_side_median, bank)[0]
    planner.decide("teacher", name, why, asked != "auto", size=size)
    return TeacherPlan(name, size, found.weights_id)


def _usual_teacher(planner: Planner, network: NetworkPlan, method: str) -> tuple[str, str]:
    if not network.scratch:
        return (
            network.backbone,
            "The weights that learning starts from, as they are then; --teacher NAME takes another network.",
        )
    bank = _own_bank(planner.bank, "auto")
    names = [name for name in automatic_backbones(planner.data.audit, bank)[0] if name != PIXELS]
    if not names:
        raise ConfigError(
            f"{method} learns from a pretrained network and none is at hand: give --teacher NAME (a timm model, or the folder of "
            "a run of fallow pretrain), or install fallow[offline]"
        )
    return names[0], "The pretrained network at hand; --teacher NAME takes another."


def _own_bank(bank: SpaceBank, name: str) -> SpaceBank:
    """Return a bank in which nothing that was asked for about the learning network counts."""
    return SpaceBank(EmbedConfig(backbone=name), bank.cache, bank.offline, None, bank.progress)


def known_of(study: Pretraining, plan: PretrainPlan, start: Backbone) -> Tensor | None:
    """Return what the frozen network that the method asks for says of each image that is learned from, (n, d) float32.

    Raises:
        RunError: The teacher's weights are not those that the run was planned with.
    """
    asks = PRETRAIN[plan.method].asks
    if not asks:
        return None
    backbone, size = start, plan.network.size
    if asks == "teacher":
        assert plan.teacher is not None
        name, size = plan.teacher.name, plan.teacher.size
        if name != plan.network.backbone or plan.network.scratch:
            backbone = load_backbone(name, offline=study.config.offline)
        if backbone.weights_id != plan.teacher.weights_id:
            raise RunError(
                f"the teacher '{name}' has other weights than when the run was started: bring them back, or start a new run"
            )
    embedder = Embedder(backbone, size, cache=study.bank.cache)
    images = study.data.images(study.data.pool_ids)
    return torch.from_numpy(
        study.bank.averaged(embedder.space("none"), images, "images to learn from", embedder)
    )
