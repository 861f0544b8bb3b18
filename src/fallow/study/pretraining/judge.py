"""Before and after, on the same images: what labels held out of learning say, and what can be said without any."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fallow.data import default_folds
from fallow.engine import effective_rank
from fallow.models import Backbone, Embedder
from fallow.record import Interval
from fallow.record.pretrained import Judged
from fallow.study.choose import accuracy_interval, gain_interval
from fallow.study.evidence import OutOfFold
from fallow.study.pretraining.data import PretrainData
from fallow.study.pretraining.extent import Extent, drawn_evenly, extent_for
from fallow.study.pretraining.measure import (
    cka,
    deal,
    knn_accuracy,
    neighbors,
    probe,
    shared,
)

BEFORE, AFTER = "before", "after"
_TIMED = 0.5
"""Seconds in which the network's speed is measured."""


@dataclass
class Judge:
    """Measures networks on the same images.

    Attributes:
        data: Images.
        cache: Directory for the graphs of networks.
        size: Side in pixels.
        seed: Of the folds and of the sample.
        learned: Images that are learned from, uint8 (n, s, s, 3).
        read: Returns images by id, likewise.
        view: Returns one noised view of some of the images that are learned from, likewise.
        extent: How much is judged; see `within`.
    """

    data: PretrainData
    cache: Path
    size: int
    seed: int
    learned: NDArray[np.uint8]
    read: Callable[[tuple[str, ...]], NDArray[np.uint8]]
    view: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    extent: Extent = field(default_factory=Extent)
    _features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _around: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    _embedders: dict[tuple[str, str], Embedder] = field(default_factory=dict)
    _seconds: float = 0.0

    def __post_init__(self) -> None:
        self._settle()

    def _settle(self) -> None:
        data, extent = self.data, self.extent
        rows = drawn_evenly(data.y, extent.judged, self.seed)
        self.ids = tuple(data.judge_ids[row] for row in rows)
        self.y: NDArray[np.int64] = data.y[rows]
        groups = tuple(data.groups[row] for row in rows)
        self.folds = deal(self.y, groups, self.seed)[: extent.fits] if data.classes else []
        self.evidence = OutOfFold(self.ids, self.y, len(data.classes))
        count = len(data.pool_ids)
        chosen = np.random.default_rng([self.seed, 7]).permutation(count)[: extent.sample]
        self.sample: NDArray[np.int64] = np.sort(chosen)

    def within(self, start: Backbone, seconds: float) -> Extent:
        """Settle how much is judged so that one judging takes about so many seconds on this machine, and return it.

        Args:
            start: The network, whose speed is measured.
            seconds: Of one judging, the making of the network's graph not counted.
        """
        speed = self._embedder(start).rate(seconds=_TIMED)
        self.extent = extent_for(self.data.y, len(self.data.pool_ids), speed, seconds)
        self._settle()
        return self.extent

    @property
    def reserve(self) -> float:
        """Seconds that judging once more will take, as it took before: the graph of the network is not counted."""
        return self._seconds

    @property
    def few(self) -> str:
        """Why labels cannot decide, to be read behind "not decidable"; empty where they can."""
        if self.folds:
            return ""
        if len(self.data.classes) < 2:
            return "without labels" if not self.data.left_out else "with one label a class"
        return "with so few labels"

    def judge(self, name: str, backbone: Backbone, seconds: float = math.inf) -> Judged:
        """Return what is measured of a network.

        Args:
            name: ``BEFORE`` or ``AFTER``.
            backbone: The network.
            seconds: After which no further probe is fitted, once each image has been held out; `extent` keeps how many there were.
        """
        embedder, images = self._embedder(backbone), self.read(self.ids) if self.folds else None
        embedder.engine  # noqa: B018 - its graph is made here, which the clock below does not count
        begun = time.monotonic()
        pool = embedder.embed_pixels(self.learned[self.sample])
        self._features[name], self._around[name] = pool, neighbors(pool)
        interval, knn = None, None
        if images is not None:
            self._probe(name, embedder.embed_pixels(images), seconds)
            _, right = self.evidence.correct((name,))
            interval, knn = accuracy_interval(right[name]), self._knn
        noised = embedder.embed_pixels(self.view(self.sample))
        stability = shared(self._around[name], neighbors(pool, noised))
        self._seconds = time.monotonic() - begun
        return Judged(interval, knn, effective_rank(torch.from_numpy(pool), rows=len(pool)), stability)

    def _probe(self, name: str, held: NDArray[np.float32], seconds: float) -> None:
        """Fit a probe on the rest of each fold, and let neighbors vote."""
        begun, all_once = time.monotonic(), default_folds(self.y.tolist())
        for number, fold in enumerate(self.folds):
            if number >= all_once and time.monotonic() - begun > seconds:
                self.extent = replace(self.extent, fits=number)
                self.folds = self.folds[:number]
                break
            probe(self.evidence, name, held, fold, number)
        self._knn = knn_accuracy(held, self.y, self.folds)

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

    def _embedder(self, backbone: Backbone) -> Embedder:
        key = (backbone.name, backbone.weights_id)
        if key not in self._embedders:
            self._embedders[key] = Embedder(backbone, self.size, cache=self.cache)
        return self._embedders[key]
