"""SwAV: each view predicts the prototypes that the other view was sorted to."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext
from fallow.methods.pretrain.crops import MultiCrop
from fallow.methods.pretrain.parts import float32, mlp, width
from fallow.methods.pretrain.prototypes import Prototypes, prototype_count, sinkhorn
from fallow.methods.pretrain.queue import Queue


class SwAV(MultiCrop):
    """Minimize the cross-entropy of each crop's prototype scores and the other large crop's assignment.

    Caron et al. 2020, arXiv 2006.09882, eq. 2 and 4: assignments of the two large crops by Sinkhorn over all processes, where
    every prototype gets as many images; small batches have company from a queue, after ``queue_from`` passes. Prototypes
    stand still in the first pass over the images. Crops of one size share a pass.

    Args:
        prototypes: Their number; None: one for 20 images, the paper's 3,000 at most, and no more than half of the images of a step:
            an assignment in which every prototype gets as many images means something then without a queue.
        temperature: Divides the scores that predict.
        epsilon: Smoothness of the assignments. The paper's 0.05 leaves a small network at chance, whose vectors are much alike at
            first: 250 steps on 4,000 CIFAR-10 images, nearest neighbors right: 25.7 % with it, 32.8 % with 0.03, 27.7 % before.
        rounds: Of Sinkhorn.
        local_crops: Small crops of each image; None: 6, and none of images below 64 pixels a side.
        queue: Earlier images that take part in the assignment; None: none where a step has at least as many images as there are
            prototypes, else the paper's 3,840, but no more than half of the images; 0: none. In a short run what the queue
            holds is soon out of date (the same 250 steps: 26.4 % with it).
        queue_from: Passes over the images after which the queue takes part.
        hidden: Width of the projector's hidden layer; None: that of the features (2,048 in the paper).
        out: Width of its output.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="swav",
        title="each view predicts the prototypes that the other was sorted to",
        family="pretrain",
        paper="Caron et al. 2020, arXiv 2006.09882",
        needs=("unlabeled",),
        suits="pools in which all kinds of images are about as frequent; many views of each image, so that few passes do",
        cost=3.5,
    )
    recipe = "swav"
    scales = ((0.14, 1.0), (0.05, 0.14))
    least_batch = 64
    chance_is_final = False

    prototypes: Prototypes

    def __init__(
        self,
        *,
        prototypes: int | None = None,
        temperature: float = 0.1,
        epsilon: float = 0.03,
        rounds: int = 3,
        local_crops: int | None = None,
        queue: int | None = None,
        queue_from: int = 15,
        hidden: int | None = None,
        out: int = 128,
    ) -> None:
        super().__init__(local_crops=local_crops)
        self.count, self.temperature, self.epsilon, self.rounds = prototypes, temperature, epsilon, rounds
        self.length, self.queue_from, self.hidden, self.out = queue, queue_from, hidden, out

    def make(self, dim: int) -> None:
        """Make projector, prototypes and queues."""
        super().make(dim)
        self.projector = mlp(dim, width(self.hidden, dim, 1), self.out)
        most = max(2, min(3000, self.batch_size // 2))
        count = prototype_count(self.count, self.n_images, most, least=2)
        self.prototypes = Prototypes(self.out, count)
        length = self.length
        if length is None:
            length = min(3840, self.n_images // 2) if self.batch_size < count else 0
        self.queues = torch.nn.ModuleList(Queue(length, self.out) for _ in range(2 if length else 0))

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the mean cross-entropy over pairs of an assigned crop and another crop."""
        features = ctx.features(*batch.unlabeled)
        projected = self.projector(torch.cat(features)).split([len(x) for x in features])
        with float32(projected[0]):
            units = [normalize(found.float(), dim=1) for found in projected]
            moving = self.epoch(ctx.step) > 0
            scores = [self.prototypes(unit, moving) for unit in units]
            losses = []
            for large in (0, 1):
                target = self._assign(large, units[large].detach(), scores[large].detach(), ctx)
                for other, said in enumerate(scores):
                    if other != large:
                        losses.append(_cross_entropy(target, said / self.temperature))
            loss = torch.stack(losses).mean()
        with torch.no_grad():
            for queue, unit in zip(self.queues, units[:2], strict=False):
                assert isinstance(queue, Queue)
                queue.push(ctx.gather(unit.detach()), ctx.gather(batch.index))
        health = {
            "chance_loss": loss.new_tensor(math.log(len(self.prototypes.weight))),
            "embeddings": units[0].detach(),
            "partners": units[1].detach(),
            "features": features[0].detach(),
        }
        return Step(loss, health=health)

    @torch.no_grad()
    def _assign(self, large: int, units: Tensor, scores: Tensor, ctx: PretrainContext) -> Tensor:
        """Return the assignment of the images of a large crop, in the company of the queue where that takes part."""
        company = scores[:0]
        if len(self.queues) and self.epoch(ctx.step) >= self.queue_from:
            queue = self.queues[large]
            assert isinstance(queue, Queue)
            # Every process holds the same queue; each brings its share of it to the common assignment.
            company = self.prototypes(queue.values[queue.filled][ctx.rank :: ctx.world_size])
        everyone = torch.cat([scores, company])
        return sinkhorn(everyone, ctx, epsilon=self.epsilon, rounds=self.rounds)[: len(scores)]


def _cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    return -(target * log_softmax(logits, dim=1)).sum(1).mean()
