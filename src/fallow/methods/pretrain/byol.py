"""BYOL: a student predicts what its slow average says of another view."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod, Teacher
from fallow.methods.pretrain.parts import float32, mlp, width


class BYOL(PretrainMethod):
    """Minimize the distance of the student's prediction from the teacher's projection of the other view.

    Grill et al. 2020, arXiv 2006.07733, eq. 2: 2 - 2 cos, both directions added. The views pass apart, and the teacher's
    BatchNorm uses its batch, as in the paper.

    Args:
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

    def __init__(self, *, hidden: int | None = None, out: int = 256) -> None:
        super().__init__()
        self.hidden, self.out = hidden, out

    def make(self, dim: int) -> None:
        """Make projector and predictor."""
        hidden = width(self.hidden, dim, 2)
        self.projector = mlp(dim, hidden, self.out)
        self.predictor = mlp(self.out, hidden, self.out)

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
