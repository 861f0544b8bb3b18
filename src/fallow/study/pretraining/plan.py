"""Which network learns, by which method, from how many images a step, and for how long: decided once, then a fact."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch

from fallow.config import PretrainConfig
from fallow.data import Audit
from fallow.engine import LoopSettings
from fallow.errors import ConfigError
from fallow.methods import look_back, pretrain_method
from fallow.models import SMALL_RESNET, Backbone, lets_gradient_through
from fallow.record import Decision, DecisionLog
from fallow.record.decision import DecisionSource
from fallow.study.bank import SpaceBank
from fallow.study.plan import automatic_backbones, usual_size
from fallow.study.pretraining.extent import Extent
from fallow.study.pretraining.teacher import TeacherPlan
from fallow.study.trained.network import NetworkPlan, scratch_size, untrained, usual_network
from fallow.study.trained.recipe import precision_of
from fallow.types import Json, JsonObject

_SMALL_BATCH, _LARGE_BATCH = 128, 256
_APART = 64
"""Images a step from which methods that compare them with each other have enough to compare."""
_A_STEP = 4
"""An image is one of at least so many parts of a pass: a batch of half the images shows few others."""
_PIXEL_BYTES, _MEMORY_SHARE = 1200, 0.4
"""What a pixel of a view takes in training, measured on EfficientNet-Lite0 and the small network, and the share of the free
memory that may go to it."""
_SMALL_LR, _SCRATCH_LR, _PRETRAINED_LR, _LAST_LR = 4e-3, 2e-3, 3e-4, 1e-3
"""At batches of 256, and of 128 images for a pretrained network that learns as a whole or in its last blocks; others by the root of
the ratio. UC Merced, last blocks, 60 steps of SimCLR, a probe on 5 labels a class: 81.0 % before, 78.1 with 1e-4, 82.8 with 1e-3,
80.0 with 3e-3. The small network from scratch, 250 steps of 128 on 4,000 CIFAR-10 images, nearest neighbors right with 1.4e-3 and 4e-3:
VICReg 34.8 and 37.4 %, SwAV 33.0 and 36.6, Barlow Twins 30.4 and 32.8 (half the usual width); SimCLR with 3e-3 39.4, with 5e-3 36.4."""
_DECAY, _WARMUP, _CLIP = 0.05, 0.1, 1.0


@dataclass(frozen=True)
class PretrainPlan:
    """What was decided before the first step.

    Attributes:
        network: The network.
        method: How it learns.
        settings: How the steps are taken, and how many.
        flips: Flips of the views.
        seconds: What the steps may take.
        teacher: The frozen network that the method learns from, where it asks for one.
        extent: How much is judged.
        options: What the method's own options became that nobody asked for.
    """

    network: NetworkPlan
    method: str
    settings: LoopSettings
    flips: tuple[str, ...]
    seconds: float
    teacher: TeacherPlan | None = None
    extent: Extent = field(default_factory=Extent)
    options: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return the plan as JSON."""
        return {
            "network": dict(vars(self.network)),
            "method": self.method,
            "settings": self.settings.to_json(),
            "flips": list(self.flips),
            "seconds": self.seconds,
            "teacher": None if self.teacher is None else dict(vars(self.teacher)),
            "extent": self.extent.to_json(),
            "options": dict(self.options),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild a plan."""
        return cls(
            NetworkPlan(**data["network"]),
            data["method"],
            LoopSettings.from_json(data["settings"]),
            tuple(data["flips"]),
            data["seconds"],
            TeacherPlan(**data["teacher"]) if data.get("teacher") else None,
            Extent.of(data.get("extent", {})),
            dict(data.get("options", {})),
        )


class Images(Protocol):
    """What a plan depends on of the images that are learned from."""

    @property
    def audit(self) -> Audit:
        """What was found in the data."""
        ...

    @property
    def pool_ids(self) -> tuple[str, ...]:
        """Who is learned from."""
        ...


@dataclass(frozen=True)
class Planner:
    """Makes the decisions that need no clock.

    Attributes:
        data: Images.
        config: What was asked for.
        bank: Backbones.
        decisions: Where they are written down.
    """

    data: Images
    config: PretrainConfig
    bank: SpaceBank
    decisions: DecisionLog

    def decide(self, name: str, value: Json, rule: str, pinned: bool, **evidence: Json) -> None:
        """Write down a value."""
        source: DecisionSource = "user" if pinned else "rule"
        self.decisions.add(Decision(name, value, source, rule, evidence, pinned))

    def network(self) -> NetworkPlan:
        """Return the network, of which all may change so far.

        Raises:
            ConfigError: There is no such network, or it cannot be had as asked for.
            WeightsError: It has no weights, or they do not fit.
        """
        asked, audit = self.config.network, self.data.audit
        name, why = self._backbone()
        side = audit.short_side_median
        self.decide(
            "network.backbone", name, why, asked.backbone != "auto", short_side=side, channels=audit.channels
        )
        scratch, why = self._scratch(name)
        self.decide("network.init", "scratch" if scratch else "pretrained", why, asked.init != "auto")
        size, why = scratch_size(side) if scratch else (0, "")
        if isinstance(asked.size, int):
            size, why = asked.size, "Asked for."
        elif not scratch:
            size, why = usual_size(name, side, self.bank)
        self.decide("network.size", size, why, asked.size != "auto", short_side=side)
        if self.bank.own is not None and not lets_gradient_through(self.bank.own, size):
            raise ConfigError(
                f"the network '{name}' lets no gradient through, so that it cannot learn: hand in another"
            )
        return NetworkPlan(name, size, scratch, "all")

    def _backbone(self) -> tuple[str, str]:
        if self.bank.own is not None:
            return self.bank.own.name, "The network that was handed in."
        if self.config.network.backbone != "auto":
            return self.config.network.backbone, "Asked for."
        if self.config.network.init == "scratch":
            return usual_network(())[0], "A small network learns from scratch in minutes."
        return usual_network(automatic_backbones(self.data.audit, self.bank)[0])

    def _scratch(self, name: str) -> tuple[bool, str]:
        asked = self.config.network
        if self.bank.own is not None:
            if asked.init == "scratch":
                raise ConfigError(
                    "network.init=scratch: a network that is handed in starts as it is; leave it out"
                )
            return False, "The network that was handed in starts as it is."
        if asked.init != "auto":
            if asked.init == "pretrained" and name.startswith(SMALL_RESNET) and asked.weights is None:
                raise ConfigError(
                    f"network.init=pretrained: {name} has no pretrained weights; give --weights FILE"
                )
            return asked.init == "scratch", "Asked for."
        if name.startswith(SMALL_RESNET) and asked.weights is None:
            return True, "The small network has no pretrained weights."
        return (
            False,
            "Learning goes on from pretrained weights: they have seen more images than there are here.",
        )

    def start(self, plan: NetworkPlan) -> Backbone:
        """Return the backbone that learning starts from."""
        if plan.scratch:
            return untrained(plan.backbone, plan.size, self.config.seed)
        return self.bank.backbone(plan.backbone)

    def batch(self, plan: NetworkPlan) -> int:
        """Return images a step."""
        asked = self.config.optimization.batch_size
        if isinstance(asked, int):
            self.decide("optimization.batch_size", asked, "Asked for.", True)
            return min(asked, len(self.data.pool_ids))
        cuda, images = torch.cuda.is_available(), len(self.data.pool_ids)
        usual = _LARGE_BATCH if cuda or (plan.scratch and images >= _A_STEP * _LARGE_BATCH) else _SMALL_BATCH
        free = free_memory()
        fits = int(_MEMORY_SHARE * free / (2 * plan.size**2 * _PIXEL_BYTES))
        batch = max(2, min(usual, images // _A_STEP, fits))
        rule = (
            f"{_LARGE_BATCH} on an accelerator and for a small network, {_SMALL_BATCH} for a pretrained one on a CPU, which sees more "
            "steps so; no more than a quarter of the images, nor than fits into memory."
        )
        self.decide("optimization.batch_size", batch, rule, False, images=images, fits_into_memory=fits)
        return batch

    def method(self, plan: NetworkPlan, batch: int, transformer: bool) -> str:
        """Return how the network learns."""
        asked = self.config.method
        if asked != "auto":
            self.decide("method", asked, "Asked for.", True)
            return asked
        if transformer and plan.scratch:
            name, rule = (
                "mae",
                "A vision transformer from scratch: hiding most of each image teaches it with few passes.",
            )
        elif transformer:
            name, rule = "dino", "A pretrained vision transformer: a slow teacher keeps what it knows."
        elif batch < _APART:
            name, rule = (
                "moco",
                "Small batches: a queue holds the other images that an image is told apart from.",
            )
        elif plan.scratch:
            name, rule = (
                "vicreg",
                "A network from scratch: of those compared on a small budget (simclr, swav, barlow_twins) none got further (benchmarks/README.md).",
            )
        else:
            name, rule = (
                "simclr",
                "A pretrained network: it learns to tell these images apart, which it has not had to; whether that helps is measured.",
            )
        images = len(self.data.pool_ids)
        self.decide(
            "method",
            name,
            rule,
            False,
            images=images,
            batch=batch,
            size=plan.size,
            seconds=self.config.seconds,
        )
        return name

    def flips(self) -> tuple[str, ...]:
        """Return the flips of the views."""
        asked = self.config.views.moves
        gray = self.data.audit.channels == "gray"
        value = asked if asked != "auto" else "none" if gray else "flip"
        rule = "Color images keep what they show when mirrored; gray ones are often writing, which does not."
        self.decide("views.moves", value, "Asked for." if asked != "auto" else rule, asked != "auto")
        return {"none": (), "flip": ("hflip",), "turns": ("hflip", "vflip")}[value]

    def settings(self, plan: NetworkPlan, method: str, batch: int, steps: int) -> LoopSettings:
        """Return how steps are taken: what was asked for, else by rule."""
        asked = self.config.optimization
        teacher = pretrain_method(method, **self.config.options).teacher
        if plan.scratch:
            small = plan.backbone.startswith(SMALL_RESNET)
            lr = (_SMALL_LR if small else _SCRATCH_LR) * (batch / 256) ** 0.5
        else:
            lr = (_LAST_LR if plan.trainable == "last" else _PRETRAINED_LR) * (batch / 128) ** 0.5
        own = {
            "lr": round(lr, 8),
            "weight_decay": _DECAY,
            "warmup": _WARMUP,
            "ema_decay": look_back(steps) if teacher is None else teacher.first(steps),
            "clip": _CLIP,
            "accumulate": 1,
            "optimizer": "adamw",
        }
        values = {
            name: value if getattr(asked, name) == "auto" else getattr(asked, name)
            for name, value in own.items()
        }
        return LoopSettings(
            steps=steps,
            batch_size=0,
            unlabeled_batch=batch,
            precision=precision_of(asked.precision),
            gradient_checkpointing=asked.gradient_checkpointing,
            seed=self.config.seed,
            **values,
        )

    def tell_settings(self, settings: LoopSettings, method: str) -> None:
        """Write down how the steps are taken, where that follows from their number and their images."""
        teacher = pretrain_method(method, **self.config.options).teacher
        pinned = self.config.optimization.ema_decay != "auto"
        if teacher is not None:
            to = "rises to 1" if teacher.end == 1 else "stays"
            rule = (
                f"The teacher looks back over a twentieth of the run's steps at first, as a short run's would keep its random first "
                f"weights otherwise, and over no more than in the paper ({teacher.decay:g}); it {to}."
            )
        else:
            rule = "The average that is kept of the network looks back over the last twentieth of the steps."
        rule = "Asked for." if pinned else rule
        self.decide("optimization.ema_decay", settings.ema_decay, rule, pinned, steps=settings.steps)
        pinned = self.config.optimization.lr != "auto"
        rule = (
            "Asked for."
            if pinned
            else "By where the network starts and what of it changes, times the root of the batch."
        )
        self.decide("optimization.lr", settings.lr, rule, pinned, images_a_step=settings.unlabeled_batch)


def free_memory() -> int:
    """Return the bytes of memory that training may fill: the accelerator's, else the machine's."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 4 * 2**30
