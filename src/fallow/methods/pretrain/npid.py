"""NPID: each image is a class of its own, and what was said of it before is its prototype."""

from __future__ import annotations

from typing import ClassVar

from torch.nn.functional import normalize

from fallow.methods.base import Batch, MethodInfo, Step, Views
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.memory import Memory
from fallow.methods.pretrain.parts import contrast, float32, mlp


class NPID(PretrainMethod):
    """Minimize the cross-entropy of the own image among all images in a memory bank.

    Wu et al. 2018, arXiv 1805.01978, eq. 2: the non-parametric softmax over all images, or over ``negatives`` of them drawn at
    random where there are more (the paper estimates the sum from 4,096).

    Args:
        temperature: Divides the cosines.
        momentum: Share of an entry of the bank that stays when its image is seen again.
        negatives: Entries of the bank that an image is compared with at most.
        out: Width of an entry.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="npid",
        title="each image is a class of its own, told from all others in a memory bank",
        family="pretrain",
        paper="Wu et al. 2018, arXiv 1805.01978",
        needs=("unlabeled",),
        suits="small batches and little time: one view of an image a step, all other images to tell it from",
        cost=1.0,
    )
    views = Views(labeled=(), unlabeled=("first",))
    recipe = "moco"
    least_batch = 16

    bank: Memory

    def __init__(
        self, *, temperature: float = 0.07, momentum: float = 0.5, negatives: int = 65536, out: int = 128
    ) -> None:
        super().__init__()
        self.temperature, self.momentum, self.negatives, self.out = temperature, momentum, negatives, out

    def make(self, dim: int) -> None:
        """Make the projection and the bank, which begins at random."""
        self.projector = mlp(dim, self.out)
        self.bank = Memory(self.n_images, self.out)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss."""
        (features,) = ctx.features(batch.unlabeled[0])
        projected = self.projector(features)
        with float32(projected):
            units = normalize(projected.float(), dim=1)
            entries, strangers = self.bank.company(batch.index, self.negatives)
            own = self.bank.values[batch.index]
            losses, chance = contrast(units, own, entries, strangers, self.temperature)
        self.bank.remember(ctx.gather(units.detach()), ctx.gather(batch.index), self.momentum)
        health = {"chance_loss": chance.mean(), "embeddings": units.detach(), "features": features.detach()}
        return Step(losses.mean(), health=health)
