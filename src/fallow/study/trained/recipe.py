"""How a network is trained: steps, batches and rates, by start and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fallow.engine import LoopSettings, Precision
from fallow.study.context import RungContext
from fallow.study.rung import Fold
from fallow.study.trained.network import NetworkPlan

_BATCH = 32
_RATIO, _PRETRAINED_RATIO = 3, 1
_SCRATCH_LR, _PRETRAINED_LR, _HEAD_LR = 2e-3, 4e-4, 4e-4
_DECAY = 0.05
_WARMUP, _CLIP = 0.05, 1.0
_EMA_SHARE = 20
"""The average looks back over one in so many of the steps."""


@dataclass(frozen=True)
class Recipe:
    """What settings come from.

    Attributes:
        plan: The network.
        joint: Whether unlabeled images take part.
    """

    plan: NetworkPlan
    joint: bool

    def settings(self, ctx: RungContext, fold: Fold | None, steps: int) -> LoopSettings:
        """Return the settings of a fit: pinned values, else the rules of this module."""
        asked = ctx.config.optimization
        batch = _int(asked.batch_size, min(_BATCH, max(8, len(ctx.train_positions(fold)))))
        ratio = _int(asked.unlabeled_ratio, _RATIO if self.plan.scratch else _PRETRAINED_RATIO)
        lr = _float(asked.lr, _SCRATCH_LR if self.plan.scratch else _PRETRAINED_LR)
        decay = _float(asked.ema_decay, look_back(steps))
        return LoopSettings(
            steps=steps,
            batch_size=batch,
            # Few labels make small batches, but the pool is no smaller for it.
            unlabeled_batch=ratio * _int(asked.batch_size, _BATCH) if self.joint else 0,
            optimizer="adamw" if asked.optimizer == "auto" else asked.optimizer,
            lr=lr,
            head_lr=None if self.plan.scratch or asked.lr != "auto" else _HEAD_LR,
            weight_decay=_float(asked.weight_decay, _DECAY),
            warmup=_float(asked.warmup, _WARMUP),
            ema_decay=decay,
            clip=_float(asked.clip, _CLIP),
            accumulate=_int(asked.accumulate, 1),
            precision=_precision(asked.precision),
            gradient_checkpointing=asked.gradient_checkpointing,
            seed=ctx.seed(fold),
        )


def look_back(steps: int) -> float:
    """Return the decay of running averages in a run of so many steps: they look back over a twentieth of it.

    Papers have 0.999, for a million steps: in a run of some hundred that would hardly leave its first value.
    """
    return min(0.999, max(0.9, 1 - _EMA_SHARE / max(steps, 1)))


def _precision(asked: Precision | Literal["auto"]) -> Precision:
    import torch

    if asked != "auto":
        return asked
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


def _int(asked: int | str, default: int) -> int:
    return asked if isinstance(asked, int) else default


def _float(asked: float | str, default: float) -> float:
    return float(asked) if isinstance(asked, int | float) else default
