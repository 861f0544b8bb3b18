"""VICReg: views agree, channels vary, and no two channels say the same."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import mse_loss, relu

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.parts import float32, mlp, off_diagonal, width

_EPS = 1e-4


class VICReg(PretrainMethod):
    """Minimize distance of views, with a hinge on the spread of each channel and a penalty on covariances.

    Bardes et al. 2021, arXiv 2105.04906, eq. 6: ``invariance`` * s(Z, Z') + ``variance`` * (v(Z) + v(Z')) + ``covariance`` *
    (c(Z) + c(Z')), with variances and covariances over the images of all processes. The views pass apart, as in the paper.

    Args:
        invariance: Weight of the squared distance of views.
        variance: Weight of the hinge that keeps the standard deviation of each channel above 1.
        covariance: Weight of the squared covariances.
        hidden: Width of the expander's hidden layers; None: 4 times that of the features (8,192 for the paper's 2,048).
        out: Width of its output; None: likewise.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="vicreg",
        title="views agree, every channel varies, no two channels say the same",
        family="pretrain",
        paper="Bardes et al. 2021, arXiv 2105.04906",
        needs=("unlabeled",),
        suits="no images to tell apart and no teacher, like barlow_twins, with each of its three aims on a knob of its own",
        cost=2.0,
    )
    recipe = "byol"
    directions = False
    least_batch = 128

    def __init__(
        self,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        hidden: int | None = None,
        out: int | None = None,
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.hidden, self.out = hidden, out

    def make(self, dim: int) -> None:
        """Make the expander."""
        hidden = width(self.hidden, dim, 4)
        self.projector = mlp(dim, hidden, hidden, width(self.out, dim, 4), last_bias=False)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the weighted sum of the three terms."""
        (first,), (second,) = (ctx.features(view) for view in batch.unlabeled)
        one, two = self.projector(first), self.projector(second)
        with float32(one):
            one, two = ctx.gather(one.float()), ctx.gather(two.float())
            apart = mse_loss(one, two)
            still = channel_hinge(one) + channel_hinge(two)
            alike = covariance_penalty(one) + covariance_penalty(two)
            loss = self.invariance * apart + self.variance * still + self.covariance * alike
        logs = {"invariance_loss": apart, "variance_loss": still, "covariance_loss": alike}
        health = {"embeddings": one.detach(), "partners": two.detach(), "features": first.detach()}
        # All images alike: no distance and no covariance, but no spread either.
        health["chance_loss"] = loss.new_tensor(2 * self.variance)
        return Step(loss, {name: value.detach() for name, value in logs.items()}, health)


def channel_hinge(values: Tensor) -> Tensor:
    """Return how far the standard deviations of the channels of (n, d) are below 1, on average (eq. 1)."""
    return relu(1 - (values.var(0) + _EPS).sqrt()).mean()


def covariance_penalty(values: Tensor) -> Tensor:
    """Return the sum of the squared covariances of different channels of (n, d), over d (eq. 4)."""
    centered = values - values.mean(0)
    covariance = centered.T @ centered / max(len(values) - 1, 1)
    return off_diagonal(covariance).square().sum() / values.shape[1]
