"""How a network is trained, as plain values: what a rung decides, a checkpoint checks and a report shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from fallow.types import JsonObject

OptimizerName = Literal["adamw", "sgd", "lamb", "lars"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class LoopSettings:
    """What the loop needs to know.

    Attributes:
        steps: Optimizer steps in all.
        batch_size: Labeled images a step, over all processes and parts; 0 for methods that learn from images alone.
        unlabeled_batch: Unlabeled images a step, likewise; 0 for methods that look at none.
        optimizer: ``adamw`` (pretrained networks and short runs), ``sgd`` (Nesterov momentum 0.9), ``lamb``
            or ``lars`` (large batches).
        lr: Peak learning rate.
        weight_decay: On weights of two and more dimensions only: biases and norms decay into nothing useful.
        warmup: Share of the steps over which the learning rate rises linearly from 0.
        floor: Learning rate at the end of the cosine, as a share of the peak.
        ema_decay: Decay of the moving average of the weights: 0.99 looks back about 100 steps, 0.999 about 1,000. 0: no
            average is kept. Of a method whose teacher is such an average, its decay at the first step.
        clip: Largest norm of the gradient; 0 is no limit.
        accumulate: Parts that the batch of a step is computed in, one after the other, to save memory.
        precision: Arithmetic of forward and backward; weights stay float32.
        gradient_checkpointing: Recompute activations instead of keeping them: less memory, a third more time.
        seed: Seed of everything random.
    """

    steps: int
    batch_size: int = 32
    unlabeled_batch: int = 0
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    floor: float = 0.0
    ema_decay: float = 0.999
    clip: float = 1.0
    accumulate: int = 1
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        images = (
            min(self.batch_size, self.unlabeled_batch) >= 0 and self.batch_size + self.unlabeled_batch > 0
        )
        if self.steps < 1 or self.accumulate < 1 or not images:
            raise ValueError(
                "steps, accumulate and one of batch_size and unlabeled_batch should be 1 or more, the other 0 or more"
            )
        if not (self.lr > 0 and 0 <= self.warmup < 1 and 0 <= self.floor <= 1 and 0 <= self.ema_decay < 1):
            raise ValueError("lr should be above 0; warmup and ema_decay in 0..1, below 1; floor in 0..1")

    def to_json(self) -> JsonObject:
        """Return the settings as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild settings."""
        return cls(**data)
