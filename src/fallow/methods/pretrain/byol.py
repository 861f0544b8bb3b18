"""BYOL: a student predicts what its slow average says of another view."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fallow.errors import ConfigError
from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod, Teacher
from fallow.methods.pretrain.parts import float32, mlp, width


class BYOL(PretrainMethod):
    """Minimize the distance of the student's prediction from the teacher's projection of the other view.

    Grill et al. 2020, arXiv 2006.07733, eq. 2: 2 - 2 cos, both directions added. The views pass apart, and the teacher's
    BatchNorm uses its batch, as in the paper.

    Args:
        head: ``byol``: projector and predictor have one hidden layer, as in the paper. ``simsiam``: the projector has two and
            BatchNorm after its output, and the predictor is narrow in the middle (Chen and He 2020, arXiv 2011.10566, sec. 4), so
            that embeddings spread from the first steps on. None: ``byol`` in runs of 10,000 steps and more. 250 steps on 4,000
            CIFAR-10 images, nearest neighbors right: 27.0 % with ``byol``, 34.2 % with ``simsiam``.
        predictor_rate: Learning rate of the predictor as a multiple of the others' highest, which does not fall; 0: it learns as they do.
            None: 0 as in the paper, 10 in runs of fewer than 10,000 steps (the same steps, a network twice as wide: 34.6 % with 0,
            35.4 % with 10; a probe 41.2 and 41.9). The paper's app. J has such a predictor, in place of a slow teacher.
        hidden: Width of hidden layers of projector and predictor; None: twice that of the features (4,096 for the paper's 2,048).
        out: Width of the projection.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="byol",
        title="the network predicts what its slow average says of another view",
        family="pretrain",
        paper="Grill et al. 2020, arXiv 2006.07733",
        needs=("unlabeled",),
        suits="batches of any size from 64 on, as it needs no other images; among the best after long training",
        cost=3.0,
    )
    recipe = "byol"
    teacher = Teacher(0.996)
    least_batch = 64

    def __init__(
        self,
        *,
        head: Literal["byol", "simsiam"] | None = None,
        predictor_rate: float | None = None,
        hidden: int | None = None,
        out: int = 256,
    ) -> None:
        super().__init__()
        if head not in (None, "byol", "simsiam"):
            raise ConfigError(f"there is no head '{head}' of byol: use byol or simsiam")
        self.head, self.rate, self.hidden, self.out = head, predictor_rate, hidden, out

    def make(self, dim: int) -> None:
        """Make projector and predictor."""
        hidden = width(self.hidden, dim, 2)
        rule = "0 as in the paper: as the others; 10 in runs of fewer than 10,000 steps, in which the predictor would lag behind."
        self.predictor_rate = self.settle("predictor_rate", self.rate, 10.0 if self.short else 0.0, rule)
        rule = "In runs of 10,000 steps and more the paper's; in shorter ones one whose embeddings spread from the first steps on."
        if self.settle("head", self.head, "simsiam" if self.short else "byol", rule) == "simsiam":
            self.projector = mlp(dim, hidden, hidden, self.out, last_norm=True)
            self.predictor = mlp(self.out, max(32, self.out // 4), self.out)
            return
        self.projector = mlp(dim, hidden, self.out)
        self.predictor = mlp(self.out, hidden, self.out)

    def steady(self) -> tuple[nn.Module, float] | None:
        """Return the predictor, and the multiple at which it learns, where it has a rate of its own."""
        return (self.predictor, self.predictor_rate) if self.predictor_rate else None

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss of both directions."""
        with torch.no_grad():
            teacher = ctx.teacher_method()
            targets = [teacher.projector(ctx.teacher_features(view)[0]) for view in batch.unlabeled]
        features = [ctx.features(view)[0] for view in batch.unlabeled]
        projected = [self.projector(found) for found in features]
        predicted = [self.predictor(found) for found in projected]
        with float32(targets[0]):
            loss = apart(predicted[0], targets[1]) + apart(predicted[1], targets[0])
        health = {
            "chance_loss": loss.new_tensor(4.0),  # directions that have nothing to do with each other
            "embeddings": projected[0].detach(),
            "partners": projected[1].detach(),
            "features": features[0].detach(),
        }
        return Step(loss, health=health)


def apart(predicted: Tensor, targets: Tensor) -> Tensor:
    """Return 2 - 2 cos of (n, d) and (n, d), on average over images."""
    one, two = normalize(predicted.float(), dim=1), normalize(targets.float(), dim=1)
    return 2 - 2 * (one * two).sum(1).mean()
