"""Methods that learn from labels: images of one class belong together, an image without a label is a class of its own."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fallow.errors import ConfigError
from fallow.methods.base import Batch, Step, Views
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.parts import float32


class ClassMethod(PretrainMethod):
    """A method that compares two views of each image by their classes.

    Labeled and unlabeled images are one batch. An image without a label is a class of its own, for which its two views are all
    there is, as in SimCLR: so few labels and a large pool learn together, and without a pool only labels teach.
    """

    views = Views(labeled=("first", "second"), unlabeled=("first", "second"))

    projector: nn.Module

    def make(self, dim: int) -> None:
        """Make sure that there are classes to learn; methods make their projector after that."""
        if self.n_classes < 2:
            raise ConfigError(
                f"{self.info.name} learns from labels of two classes or more, and those it may learn from have {self.n_classes}: "
                "sort some more images into one folder a class (half of them judge), or take a method that needs none, such as simclr"
            )

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss of labeled and unlabeled images together; all views share a pass."""
        images = (*batch.labeled, *batch.unlabeled)
        features = ctx.features(*images)
        projected = self.projector(torch.cat(features))
        with float32(projected):
            units = normalize(projected.float(), dim=1)
            loss, chance = self.compare(units, self._classes(batch), ctx)
        parts = torch.split(units.detach(), [len(x) for x in images])
        health = {
            "embeddings": torch.cat(parts[::2]),
            "partners": torch.cat(parts[1::2]),
            "features": torch.cat(features[::2]).detach(),
        }
        return Step(loss, health=health if chance is None else {**health, "chance_loss": chance})

    @abstractmethod
    def compare(self, units: Tensor, classes: Tensor, ctx: PretrainContext) -> tuple[Tensor, Tensor | None]:
        """Return the loss, and what it is where all embeddings are alike; None where that says nothing.

        Args:
            units: Embeddings of all views of this process's images, (n, d), float32, unit length.
            classes: Which class each is of, long (n,).
            ctx: The loop: the images of all processes are compared with each other.
        """

    def _classes(self, batch: Batch) -> Tensor:
        """Return which class each view is of; an image without a label has one of its own, behind those that are known."""
        own = (self.n_classes + batch.index).repeat(2 if batch.unlabeled else 0)
        if not batch.labeled:
            return own
        known = batch.targets if batch.targets.ndim == 1 else batch.targets.argmax(1)
        return torch.cat([known.repeat(2), own])


class Metric(ClassMethod):
    """A loss of distances between embeddings, which are one linear layer on the features, at unit length.

    The pairs are those of the whole batch, over all processes.

    Args:
        out: Width of the embeddings.
    """

    least_batch = 64

    def __init__(self, *, out: int = 128) -> None:
        super().__init__()
        self.out = out

    def make(self, dim: int) -> None:
        """Make the embedding."""
        super().make(dim)
        self.projector = nn.Linear(dim, self.out)

    def compare(self, units: Tensor, classes: Tensor, ctx: PretrainContext) -> tuple[Tensor, Tensor | None]:
        """Return the loss of the images of all processes."""
        return self.measure(ctx.gather(units), ctx.gather(classes))

    @abstractmethod
    def measure(self, units: Tensor, classes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the loss of embeddings (n, d) of classes (n,), and what it is where all are alike, if that says anything."""
