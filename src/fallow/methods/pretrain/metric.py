"""Metric learning: images of one class lie near each other, by the losses and miners of pytorch-metric-learning."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from fallow.errors import ConfigError
from fallow.methods.base import MethodInfo
from fallow.methods.pretrain.classes import Metric

_NEEDS = ("labels", "unlabeled", "pytorch-metric-learning")


class _Mined(Metric):
    """A loss of pytorch-metric-learning, of the pairs or triplets that its miner finds, or of all."""

    def make(self, dim: int) -> None:
        """Take loss and miner from the library."""
        super().make(dim)
        try:
            import pytorch_metric_learning.losses  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"{self.info.name} is a loss of pytorch-metric-learning: pip install 'fallow[metric]'; supcon, soft_nn and lifted "
                "learn from labels without it"
            ) from error
        self.pairs, self.miner = self.parts()

    @abstractmethod
    def parts(self) -> tuple[Any, Any]:
        """Return loss and miner; None: all pairs count."""

    def measure(self, units: Tensor, classes: Tensor) -> tuple[Tensor, None]:
        """Return the library's loss of what its miner finds."""
        found = None if self.miner is None else self.miner(units, classes)
        loss: Tensor = self.pairs(units, classes, found)
        return loss, None


class Triplet(_Mined):
    """Minimize by how much an image of the own class is not nearer than one of another, by a margin.

    Schroff et al. 2015, arXiv 1503.03832, eq. 2, on squared distances, of one triplet an image: the farthest of the own class (Hermans
    et al. 2017, arXiv 1703.07737) and, semi-hard (eq. 4), the nearest of another class that is farther still. All triplets of a
    batch would be millions. The mean is of those that lose anything.

    Args:
        margin: Of squared distances.
        out: Width of the embeddings.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="triplet",
        title="an image of the own class is nearer than one of another, by a margin",
        family="pretrain",
        paper="Schroff et al. 2015, arXiv 1503.03832",
        needs=_NEEDS,
        suits="looking up the nearest images of things that go on changing, such as faces or products: only distances matter",
        cost=2.0,
    )

    def __init__(self, *, margin: float = 0.2, out: int = 128) -> None:
        super().__init__(out=out)
        self.margin = margin

    def parts(self) -> tuple[Any, Any]:
        """Return the triplet loss, and the miner of semi-hard triplets."""
        from pytorch_metric_learning import distances, losses, miners

        squared = distances.LpDistance(power=2)
        miner = miners.BatchEasyHardMiner("hard", "semihard", distance=squared)
        return losses.TripletMarginLoss(self.margin, distance=squared), miner


class PN(_Mined):
    """Minimize by how much two images of a class are not nearer to each other than the nearer of both is to one of another.

    Balntas et al. 2016, arXiv 1601.05030, sec. 3, with the margin that Szubert et al. 2019 (Sci. Rep. 9, 8914) have, of the triplets
    that `Triplet` has; the mean is of those that lose anything.

    Args:
        margin: Of distances.
        out: Width of the embeddings.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="pn",
        title="two images of a class are nearer to each other than either is to one of another",
        family="pretrain",
        paper="Balntas et al. 2016, arXiv 1601.05030; Szubert et al. 2019, Sci. Rep. 9, 8914",
        needs=_NEEDS,
        suits="the same as triplet, where that leaves classes too close: a pair is kept apart from others at both of its ends",
        cost=2.0,
    )

    def __init__(self, *, margin: float = 1.0, out: int = 128) -> None:
        super().__init__(out=out)
        self.margin = margin

    def parts(self) -> tuple[Any, Any]:
        """Return the triplet loss with swapped anchors."""
        from pytorch_metric_learning import losses, miners

        return losses.TripletMarginLoss(self.margin, swap=True), miners.BatchEasyHardMiner("hard", "semihard")


class MultiSimilarity(_Mined):
    """Minimize soft maxima of the cosines with other classes and of the lack of it with the own class.

    Wang et al. 2019, arXiv 1904.06627, eq. 15, for the pairs that its mining (eq. 12 and 13) keeps: others that are nearer than the
    farthest of the own class, and own that are farther than the nearest other, each within ``epsilon``.

    Args:
        alpha: Sharpness for the own class.
        beta: Sharpness for other classes.
        base: Cosine above which others, and below which the own, weigh.
        epsilon: Slack of the mining.
        out: Width of the embeddings.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="multi_similarity",
        title="the hardest pairs of a batch weigh most, by three kinds of similarity",
        family="pretrain",
        paper="Wang et al. 2019, arXiv 1904.06627",
        needs=_NEEDS,
        suits="many classes with few images each; the one to try first of the losses on pairs",
        cost=2.0,
    )

    def __init__(
        self,
        *,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 1.0,
        epsilon: float = 0.1,
        out: int = 128,
    ) -> None:
        super().__init__(out=out)
        self.alpha, self.beta, self.base, self.epsilon = alpha, beta, base, epsilon

    def parts(self) -> tuple[Any, Any]:
        """Return the loss and its miner."""
        from pytorch_metric_learning import losses, miners

        loss = losses.MultiSimilarityLoss(self.alpha, self.beta, self.base)
        return loss, miners.MultiSimilarityMiner(self.epsilon)


class Circle(_Mined):
    """Minimize the soft maximum of cosines with other classes less those with the own, each weighed by how far it has to go.

    Sun et al. 2020, arXiv 2002.10857, eq. 6 with the margins of eq. 8, for all pairs of a batch.

    Args:
        margin: Relaxation: how near to 0 and 1 the cosines shall come.
        scale: Of the cosines.
        out: Width of the embeddings.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="circle",
        title="each cosine is pulled as hard as it has far to go",
        family="pretrain",
        paper="Sun et al. 2020, arXiv 2002.10857",
        needs=_NEEDS,
        suits="classes that differ in fine detail; calm, as pairs that are good enough pull no more",
        cost=2.0,
    )

    def __init__(self, *, margin: float = 0.4, scale: float = 80.0, out: int = 128) -> None:
        super().__init__(out=out)
        self.margin, self.scale = margin, scale

    def parts(self) -> tuple[Any, Any]:
        """Return the loss."""
        from pytorch_metric_learning import losses

        return losses.CircleLoss(self.margin, self.scale), None
