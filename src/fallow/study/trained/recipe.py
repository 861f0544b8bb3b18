"""How a network is trained: steps, batches and rates, by start and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fallow.engine import LoopSettings, Precision
from fallow.methods import look_back
from fallow.study.context import RungContext
from fallow.study.rung import Fold
from fallow.study.trained.map_plan import known_plan
from fallow.study.trained.network import NetworkPlan
from fallow.study.trained.tune import DECAY, LR, MIX, STRENGTH, resolved
from fallow.types import Json

_BATCH = 32
_RATIO, _PRETRAINED_RATIO = 3, 1
_SCRATCH_LR, _PRETRAINED_LR = 2e-3, 4e-4
_DECAY = 0.05
_WARMUP, _CLIP = 0.05, 1.0


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
        """Return the settings of a fit: pinned values, else what its fold found, else the rules of this module."""
        asked = ctx.config.optimization
        batch = _int(asked.batch_size, min(_BATCH, max(8, len(ctx.train_positions(fold)))))
        ratio = _int(asked.unlabeled_ratio, _RATIO if self.plan.scratch else _PRETRAINED_RATIO)
        decay = _float(asked.ema_decay, look_back(steps))
        return LoopSettings(
            steps=steps,
            batch_size=batch,
            # Few labels make small batches, but the pool is no smaller for it.
            unlabeled_batch=ratio * _int(asked.batch_size, _BATCH) if self.joint else 0,
            optimizer="adamw" if asked.optimizer == "auto" else asked.optimizer,
            lr=float(resolved(ctx, fold, LR, default_lr(self.plan))),
            weight_decay=float(resolved(ctx, fold, DECAY, _DECAY)),
            warmup=_float(asked.warmup, _WARMUP),
            ema_decay=decay,
            clip=_float(asked.clip, _CLIP),
            accumulate=_int(asked.accumulate, 1),
            precision=precision_of(asked.precision),
            gradient_checkpointing=asked.gradient_checkpointing,
            seed=ctx.seed(fold),
        )


def default_lr(plan: NetworkPlan) -> float:
    """Return the highest learning rate where nothing was searched: one for head and last blocks alike."""
    return _SCRATCH_LR if plan.scratch else _PRETRAINED_LR


def searched(ctx: RungContext, plan: NetworkPlan) -> dict[str, tuple[Json, ...]]:
    """Return what labels-only training searches around its defaults, and in which order.

    Noise is no part of it where a frozen trunk was run on the noised images once: each strength would need maps of its own.
    """
    lr = default_lr(plan)
    axes: dict[str, tuple[Json, ...]] = {LR: (3 * lr, lr / 3), MIX: ("mixup",), DECAY: (10 * _DECAY,)}
    maps = known_plan(ctx)
    if maps is None or not maps.views:
        axes |= {STRENGTH: (0.5,)}
    return axes


def precision_of(asked: Precision | Literal["auto"]) -> Precision:
    """Return the arithmetic asked for, else bf16 where a GPU has it."""
    import torch

    if asked != "auto":
        return asked
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


def _int(asked: int | str, default: int) -> int:
    return asked if isinstance(asked, int) else default


def _float(asked: float | str, default: float) -> float:
    return float(asked) if isinstance(asked, int | float) else default
