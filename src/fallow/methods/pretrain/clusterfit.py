"""ClusterFit: name the cluster that a frozen network sorts an image to."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext
from fallow.methods.pretrain.clusters import centered_units, sphere_kmeans
from fallow.methods.pretrain.crops import PlainCrop
from fallow.methods.pretrain.parts import float32
from fallow.methods.pretrain.prototypes import prototype_count


class ClusterFit(PlainCrop):
    """Minimize the cross-entropy of the cluster that each image's features in a frozen network fall into.

    Yan et al. 2019, arXiv 1912.03330, sec. 3: k-means on the features of a frozen network, once; then a head from random weights,
    on a network from scratch or one that goes on, learns to name the clusters. Clusters forget what is particular to the task that
    the frozen network was trained for. Features are centered and compared by direction.

    Args:
        clusters: Their number; None: one for 20 images and the paper's 16,000 at most.
        rounds: Of k-means.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="clusterfit",
        title="name the cluster that a frozen network sorts the image to",
        family="pretrain",
        paper="Yan et al. 2019, arXiv 1912.03330",
        needs=("unlabeled", "weights"),
        suits="a small network from scratch beside a good large one (--teacher); quick, as each image has a class from the start",
        cost=1.0,
    )
    asks = "teacher"

    cluster: Tensor

    def __init__(self, *, clusters: int | None = None, rounds: int = 20) -> None:
        super().__init__()
        self.clusters, self.rounds = clusters, rounds

    def make(self, dim: int) -> None:
        """Cluster what is known, and make the head."""
        assert self.known is not None
        count = min(prototype_count(self.clusters, self.n_images, 16000, 2), self.n_images)
        drawn = torch.Generator().manual_seed(0)
        _, cluster = sphere_kmeans(centered_units(self.known.float()), count, drawn, self.rounds)
        shares = torch.bincount(cluster, minlength=count) / self.n_images
        self.chance = float(-torch.xlogy(shares, shares).sum())
        self.register_buffer("cluster", cluster)
        self.projector = nn.Linear(dim, count)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the mean cross-entropy."""
        (features,) = ctx.features(batch.unlabeled[0])
        answers, truth = self.projector(features), self.cluster[batch.index]
        with float32(answers):
            loss = cross_entropy(answers.float(), truth)
        right = (answers.argmax(1) == truth).float().mean()
        health = {"chance_loss": loss.new_tensor(self.chance), "features": features.detach()}
        return Step(loss, {"clusters_right": right}, health)
