"""DeepCluster v2: name the cluster that earlier views of the image fell into; clusters are made anew again and again."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext
from fallow.methods.pretrain.clusters import sphere_kmeans
from fallow.methods.pretrain.crops import MultiCrop
from fallow.methods.pretrain.memory import Memory
from fallow.methods.pretrain.parts import float32, mlp, width
from fallow.methods.pretrain.prototypes import prototype_count

_LEAST_STEPS, _CLUSTERINGS = 50, 4
"""Clusters stand for so many steps at least, but a run makes them so many times."""
_ROWS = 4096


class DeepCluster(MultiCrop):
    """Minimize the cross-entropy of the cluster of each image, by cosines of its crops with the centers of all clusters.

    Caron et al. 2020, arXiv 2006.09882, app. C (DeepCluster-v2): spherical k-means on a memory of what was last said of the large
    crops of each image, ``heads`` times from other starts; until the next time the centers stand still as prototypes and all crops
    are to name the cluster of their image. The memory begins with what the projector makes of the features of the network that
    learning starts from.

    Clusters are made anew once a pass, as in the paper, whose pass has thousands of steps. Where a pass is short they stand for 50
    steps: a network that is given others before it has learned to name them stays at chance (500 digits, 240 steps of 64: clusters
    of 5 steps 3.17, of 60 steps 3.03 where chance is 3.22; nearest neighbors 83 and 87 % right, 73 before). Where a run has few
    passes it makes them four times, or it would never leave the clusters of the network that it began with.

    Args:
        heads: Clusterings, each with centers of its own.
        prototypes: Clusters of each; None: one for 20 images and the paper's 3,000 at most.
        temperature: Divides the cosines.
        rounds: Of k-means.
        local_crops: Small crops of each image; None: 6, and none of images below 64 pixels a side.
        hidden: Width of the projector's hidden layer; None: that of the features (2,048 in the paper).
        out: Width of its output.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="deepcluster",
        title="name the cluster that the image fell into when it was last seen",
        family="pretrain",
        paper="Caron et al. 2020, arXiv 2006.09882",
        needs=("unlabeled",),
        suits="pools that fall into groups by themselves, of equal size or not; batches may be small, as clusters are of the whole pool",
        cost=3.5,
    )
    recipe = "swav"
    scales = ((0.14, 1.0), (0.05, 0.14))
    least_batch = 16
    chance_is_final = False
    asks = "start"

    begin: Tensor
    centers: Tensor
    cluster: Tensor
    clustered: Tensor

    def __init__(
        self,
        *,
        heads: int = 3,
        prototypes: int | None = None,
        temperature: float = 0.1,
        rounds: int = 10,
        local_crops: int | None = None,
        hidden: int | None = None,
        out: int = 128,
    ) -> None:
        super().__init__(local_crops=local_crops)
        self.heads, self.count, self.temperature, self.rounds = heads, prototypes, temperature, rounds
        self.hidden, self.out = hidden, out

    def make(self, dim: int) -> None:
        """Make projector, memories and the places of clusters and centers."""
        super().make(dim)
        assert self.known is not None
        self.projector = mlp(dim, width(self.hidden, dim, 1), self.out)
        count = min(prototype_count(self.count, self.n_images, 3000, 2), self.n_images)
        self.memories = nn.ModuleList(Memory(self.n_images, self.out) for _ in range(2))
        self.register_buffer(
            "begin", self.known.float(), persistent=False
        )  # nobody asks after the first step
        self.register_buffer("centers", torch.zeros(self.heads, count, self.out))
        self.register_buffer("cluster", torch.zeros(self.heads, self.n_images, dtype=torch.long))
        self.register_buffer("clustered", torch.tensor(-1))
        a_pass = math.ceil(self.n_images / self.batch_size)
        self.every = max(1, min(max(a_pass, _LEAST_STEPS), self.total_steps // _CLUSTERINGS))

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the mean cross-entropy over heads and crops."""
        if ctx.step % self.every == 0 and int(self.clustered) != ctx.step:  # once in a step of several parts
            self._make_clusters(ctx.step)
        features = ctx.features(*batch.unlabeled)
        projected = self.projector(torch.cat(features))
        with float32(projected):
            units = normalize(projected.float(), dim=1)
            named = self.cluster[:, batch.index].repeat(1, len(batch.unlabeled))
            losses = [
                cross_entropy(units @ centers.T / self.temperature, own)
                for centers, own in zip(self.centers, named, strict=True)
            ]
            loss = torch.stack(losses).mean()
        large = torch.split(units.detach(), [len(x) for x in features])[:2]
        index = ctx.gather(batch.index)
        for memory, seen in zip(self._memories(), large, strict=True):
            memory.remember(ctx.gather(seen), index)
        health = {
            "chance_loss": loss.new_tensor(math.log(self.centers.shape[1])),
            "embeddings": large[0],
            "partners": large[1],
            "features": features[0].detach(),
        }
        return Step(loss, health=health)

    def _memories(self) -> list[Memory]:
        return [part for part in self.memories if isinstance(part, Memory)]

    @torch.no_grad()
    def _make_clusters(self, step: int) -> None:
        """Cluster what is remembered; all processes remember the same and draw the same."""
        if int(self.clustered) < 0:
            parts = self.begin.tensor_split(math.ceil(len(self.begin) / _ROWS))
            start = normalize(torch.cat([self.projector(part).float() for part in parts]), dim=1)
            for memory in self._memories():
                memory.values.copy_(start)
        for head in range(self.heads):
            values = self._memories()[head % 2].values
            drawn = torch.Generator().manual_seed(step * self.heads + head)
            centers, cluster = sphere_kmeans(values, self.centers.shape[1], drawn, self.rounds)
            self.centers[head], self.cluster[head] = centers, cluster
        self.clustered.fill_(step)
