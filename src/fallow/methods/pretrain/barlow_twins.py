"""Barlow Twins: the channels of two views agree each with itself and with no other."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.parts import float32, mlp, off_diagonal, width

_EPS = 1e-5


class BarlowTwins(PretrainMethod):
    """Bring the cross-correlation of the two views' embeddings to the identity.

    Zbontar et al. 2021, arXiv 2103.03230, eq. 1: sum of (1 - C_ii)^2 + ``redundancy`` * sum of C_ij^2 off the diagonal, with C
    the correlation over the images of all processes. The views pass apart, as in the paper.

    Args:
        redundancy: Weight of the terms off the diagonal.
        hidden: Width of the projector's hidden layers; None: 4 times that of the features (8,192 for the paper's 2,048).
        out: Width of its output; None: likewise.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="barlow_twins",
        title="each channel says the same of two views and something else than other channels",
        family="pretrain",
        paper="Zbontar et al. 2021, arXiv 2103.03230",
        needs=("unlabeled",),
        suits="no images to tell apart, no teacher, few knobs; batches of 128 images and more",
        cost=2.0,
    )
    recipe = "byol"
    directions = False
    least_batch = 128

    def __init__(
        self, *, redundancy: float = 0.005, hidden: int | None = None, out: int | None = None
    ) -> None:
        super().__init__()
        self.redundancy, self.hidden, self.out = redundancy, hidden, out

    def make(self, dim: int) -> None:
        """Make the projector."""
        hidden = width(self.hidden, dim, 4)
        self.projector = mlp(dim, hidden, hidden, width(self.out, dim, 4), last_bias=False)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss."""
        (first,), (second,) = (ctx.features(view) for view in batch.unlabeled)
        one, two = self.projector(first), self.projector(second)
        with float32(one):
            one, two = one.float(), two.float()
            correlation = cross_correlation(ctx.gather(one), ctx.gather(two))
            agreement = (1 - correlation.diagonal()).square().sum()
            redundancy = off_diagonal(correlation).square().sum()
            loss = agreement + self.redundancy * redundancy
        logs = {"agreement_loss": agreement.detach(), "redundancy_loss": redundancy.detach()}
        health = {"embeddings": one.detach(), "partners": two.detach(), "features": first.detach()}
        # The views agree in no channel: what independent noise has.
        health["chance_loss"] = loss.new_tensor(float(one.shape[1]))
        return Step(loss, logs, health)


def cross_correlation(one: Tensor, two: Tensor) -> Tensor:
    """Return the correlation of each channel of ``one`` (n, d) with each of ``two`` (n, d) over images, (d, d)."""
    return _standard(one).T @ _standard(two) / len(one)


def _standard(values: Tensor) -> Tensor:
    variance, mean = values.var(0, correction=0), values.mean(0)
    return (values - mean) * (variance + _EPS).rsqrt()
