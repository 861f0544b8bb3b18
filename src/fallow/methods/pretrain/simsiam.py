"""SimSiam: a network predicts what it says itself of another view, and no gradient reaches what is predicted."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fallow.augment import SMALL_SIDE
from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.parts import float32, mlp, width


class SimSiam(PretrainMethod):
    """Minimize the negative cosine of a prediction and the other view's projection, which stands still.

    Chen and He 2020, arXiv 2011.10566, eq. 2: D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2. The views pass apart, as in
    the paper.

    Args:
        layers: Of the projector; None: 3, or 2 for images up to 64 pixels a side, as in the paper's experiment on CIFAR-10 (app. D).
        out: Width of the projection, and of the projector's hidden layers; None: that of the features (2,048 in the paper).
        hidden: Width of the predictor's hidden layer; None: a quarter of ``out``.
        predictor_rate: Learning rate of the predictor as a multiple of the others' highest; it does not fall (sec. 4.2, table 1).
            None: 1 as in the paper, 10 in runs of fewer than 10,000 steps, in which the predictor would lag behind what it predicts.
            250 steps on 4,000 CIFAR-10 images, nearest neighbors right: 28.0 % where it learns and falls as the rest, 35.3 % with
            3, 36.2 % with 10, at which BYOL's predictor does without a slow teacher too (2006.07733, app. J).
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

    def __init__(
        self,
        *,
        layers: int | None = None,
        out: int | None = None,
        hidden: int | None = None,
        predictor_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.out, self.hidden, self.rate = layers, out, hidden, predictor_rate

    def make(self, dim: int) -> None:
        """Make projector and predictor."""
        out = width(self.out, dim, 1)
        rule = f"The paper's 3; 2 for images up to {SMALL_SIDE} pixels, as in its experiment on CIFAR-10."
        layers = self.settle("layers", self.layers, 2 if self.small else 3, rule)
        self.projector = mlp(dim, *[out] * max(1, layers), last_norm=True)
        rule = (
            "The paper's 1; 10 in runs of fewer than 10,000 steps, in which the predictor would lag behind."
        )
        self.predictor_rate = self.settle("predictor_rate", self.rate, 10.0 if self.short else 1.0, rule)
        self.predictor = mlp(out, width(self.hidden, out, 0.25, least=32), out)

    def steady(self) -> tuple[nn.Module, float]:
        """Return the predictor, and the multiple at which it learns."""
        return self.predictor, self.predictor_rate

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
