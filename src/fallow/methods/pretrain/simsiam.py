"""SimSiam: a network predicts what it says itself of another view, and no gradient reaches what is predicted."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cosine_similarity

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.parts import float32, mlp, width


class SimSiam(PretrainMethod):
    """Minimize the negative cosine of a prediction and the other view's projection, which stands still.

    Chen and He 2020, arXiv 2011.10566, eq. 2: D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2. The views pass apart, as in
    the paper.

    Args:
        out: Width of the projection, and of the projector's hidden layers; None: that of the features (2,048 in the paper).
        hidden: Width of the predictor's hidden layer; None: a quarter of ``out``.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="simsiam",
        title="the network predicts what it says itself of another view",
        family="pretrain",
        paper="Chen and He 2020, arXiv 2011.10566",
        needs=("unlabeled",),
        suits="little memory: no other images, no second network; batches from 64 on, rather slow to learn",
        cost=2.0,
    )
    recipe = "moco"
    least_batch = 64

    def __init__(self, *, out: int | None = None, hidden: int | None = None) -> None:
        super().__init__()
        self.out, self.hidden = out, hidden

    def make(self, dim: int) -> None:
        """Make projector and predictor."""
        out = width(self.out, dim, 1)
        self.projector = mlp(dim, out, out, out, last_norm=True)
        self.predictor = mlp(out, width(self.hidden, out, 0.25, least=32), out)

    def target(self, projected: Tensor) -> Tensor:
        """Return what is to be predicted: the projection without gradient, or all images would fall into one point."""
        return projected.detach()

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss of both directions."""
        features = [ctx.features(view)[0] for view in batch.unlabeled]
        projected = [self.projector(found) for found in features]
        predicted = [self.predictor(found) for found in projected]
        with float32(projected[0]):
            loss = self._miss(predicted[0], projected[1]) + self._miss(predicted[1], projected[0])
        health = {
            "chance_loss": loss.new_tensor(0.0),  # directions that have nothing to do with each other
            "embeddings": projected[0].detach(),
            "partners": projected[1].detach(),
            "features": features[0].detach(),
        }
        return Step(loss, health=health)

    def _miss(self, predicted: Tensor, projected: Tensor) -> Tensor:
        return -cosine_similarity(predicted.float(), self.target(projected.float()), dim=1).mean() / 2
