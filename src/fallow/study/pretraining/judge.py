"""Before and after, on the same images: what labels held out of learning say, and what can be said without any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from fallow.engine import effective_rank
from fallow.models import Backbone, Embedder
from fallow.record import Interval
from fallow.record.pretrained import Judged
from fallow.study.bank import SpaceBank
from fallow.study.choose import accuracy_interval, gain_interval
from fallow.study.evidence import OutOfFold
from fallow.study.pretraining.data import PretrainData
from fallow.study.pretraining.measure import (
    cka,
    deal,
    knn_accuracy,
    neighbors,
    probe,
    shared,
)

_SAMPLE = 1000
"""Images whose neighbors are looked at: more say little more."""
BEFORE, AFTER = "before", "after"


@dataclass
class Judge:
    """Measures networks on the same images.

    Attributes:
        data: Images.
        bank: Vectors.
        size: Side in pixels.
        seed: Of the folds and of the sample.
        view: Returns one noised view of some of the images that are learned from, uint8 (n, s, s, 3).
    """

    data: PretrainData
    bank: SpaceBank
    size: int
    seed: int
    view: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    _features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _around: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    _embedders: dict[tuple[str, str], Embedder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = self.data
        self.folds = deal(data.y, data.groups, self.seed) if data.classes else []
        self.evidence = OutOfFold(data.judge_ids, data.y, len(data.classes))
        count = len(data.pool_ids)
        chosen = np.random.default_rng([self.seed, 7]).permutation(count)[:_SAMPLE]
        self.sample: NDArray[np.int64] = np.sort(chosen)

    @property
    def few(self) -> str:
        """Why labels cannot decide, to be read behind "not decidable"; empty where they can."""
        if self.folds:
            return ""
        if len(self.data.classes) < 2:
            return "without labels" if not self.data.left_out else "with one label a class"
        return "with so few labels"

    def judge(self, name: str, backbone: Backbone) -> Judged:
        """Return what is measured of a network."""
        held = self._embed(backbone, self.data.judge_ids, "judging images") if self.folds else None
        pool = self._embed(backbone, tuple(self.data.pool_ids[i] for i in self.sample), "a sample")
        self._features[name], self._around[name] = pool, neighbors(pool)
        interval, knn = None, None
        if held is not None:
            probe(self.evidence, name, held, self.folds)
            _, right = self.evidence.correct((name,))
            interval, knn = accuracy_interval(right[name]), knn_accuracy(held, self.data.y, self.folds)
        noised = self._embedder(backbone).embed_pixels(self.view(self.sample))
        stability = shared(self._around[name], neighbors(pool, noised))
        return Judged(interval, knn, effective_rank(torch.from_numpy(pool), rows=len(pool)), stability)

    def difference(self) -> Interval | None:
        """Return the paired difference of the probe's accuracy, after less before; None where nothing is held out."""
        if not self.folds:
            return None
        _, right = self.evidence.correct((BEFORE, AFTER))
        return gain_interval(right[AFTER], right[BEFORE], seed=self.seed)

    def moved(self) -> tuple[float, float]:
        """Return which share of the nearest images are others now, and 1 - CKA of the features."""
        stayed = shared(self._around[BEFORE], self._around[AFTER])
        return 1 - stayed, 1 - cka(self._features[BEFORE], self._features[AFTER])

    def _embed(self, backbone: Backbone, ids: tuple[str, ...], what: str) -> NDArray[np.float32]:
        embedder = self._embedder(backbone)
        return self.bank.averaged(embedder.space("none"), self.data.images(ids), what, embedder)

    def _embedder(self, backbone: Backbone) -> Embedder:
        key = (backbone.name, backbone.weights_id)
        if key not in self._embedders:
            self._embedders[key] = Embedder(backbone, self.size, cache=self.bank.cache)
        return self._embedders[key]
