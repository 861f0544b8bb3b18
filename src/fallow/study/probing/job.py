"""From a source to a table: load, read, embed, measure by each protocol, and compare where there are two backbones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fallow.config.evaluate import FeaturesConfig
from fallow.data import Source, audit
from fallow.record.probed import ProbedNetwork, ProbeFigure, ProbeRecord
from fallow.study.probing.clusters import clusters
from fallow.study.probing.data import ProbedData
from fallow.study.probing.deal import Deal
from fallow.study.probing.finetune import finetune
from fallow.study.probing.heads import linear, low_shot, mlp, svm
from fallow.study.probing.neighbors import knn, retrieval
from fallow.study.probing.scores import Scores
from fallow.study.probing.subject import Named, Subject
from fallow.study.probing.told import sentence, told_of
from fallow.types import Progress, silent

Protocol = Callable[[NDArray[np.float32], Deal, Progress], list[Scores]]

ON_FEATURES: dict[str, Protocol] = {
    "knn": knn,
    "linear": linear,
    "low-shot": low_shot,
    "clusters": clusters,
    "retrieval": retrieval,
    "svm": svm,
    "mlp": mlp,
}
"""Protocols that ask for features and labels alone."""


@dataclass
class Probing:
    """Measures one backbone, or two side by side.

    Attributes:
        source: Where images come from.
        named: The data as the user named them.
        network: The backbone.
        against: Another; None: nothing is compared.
        config: What was asked for.
        progress: Who watches.
        taught: Returns how many of these files a network learned from in its run, and None where that is not known.
    """

    source: Source
    named: str
    network: Named
    against: Named | None
    config: FeaturesConfig
    progress: Progress = silent
    taught: Callable[[str, list[str]], int | None] = field(default=lambda name, hashes: None)

    def do(self) -> ProbeRecord:
        """Measure.

        Raises:
            FallowError: Something given cannot be used; the message says what and what to do.
        """
        begun = time.monotonic()
        loaded = [named.load() for named in (self.network, self.against) if named is not None]
        found = audit(self.source, progress=self.progress)
        data = ProbedData.build(found, self.config.split, self.config.images, self.config.seed)
        asked = self.config.size if isinstance(self.config.size, int) else None
        side, sizes = found.short_side_median, [one.size for one in loaded]
        subjects = [
            one.sized(side, asked, like)
            for one, like in zip(loaded, (sizes[-1], sizes[0])[: len(loaded)], strict=True)
        ]
        figures = self._figures(data, subjects)
        networks: list[ProbedNetwork] = [subject.described for subject in subjects]
        against = networks[1] if len(networks) > 1 else None
        notes = (*data.notes, *self._met(data, subjects), *told_of(figures, len(found.skipped)))
        deal = data.deal
        counts = np.bincount(deal.y[deal.judged], minlength=deal.classes)
        return ProbeRecord(
            data=self.named,
            network=networks[0],
            against=against,
            sentence=sentence(figures, against),
            judged_on=data.judged_on,
            judged=len(deal.judged),
            labeled=len(data.ids),
            classes=deal.classes,
            chance=float(counts.max() / counts.sum()),
            figures=figures,
            notes=notes,
            seed=self.config.seed,
            seconds=round(time.monotonic() - begun, 1),
        )

    def _figures(self, data: ProbedData, subjects: list[Subject]) -> tuple[ProbeFigure, ...]:
        images, made = data.images, []
        features = [s.embed(images, "images", self.progress) for s in subjects]
        for name in self.config.protocols:
            if name == "finetune":
                both = [finetune(s, data, self.config.steps, self.progress) for s in subjects]
            else:
                both = [ON_FEATURES[name](x, data.deal, self.progress) for x in features]
            made += [self._figure(name, *scores) for scores in zip(*both, strict=True)]
        return tuple(made)

    def _figure(self, protocol: str, scores: Scores, other: Scores | None = None) -> ProbeFigure:
        seed = self.config.seed
        return ProbeFigure(
            protocol,
            scores.name,
            scores.title,
            scores.in_percent,
            scores.interval(seed),
            scores.spread,
            len(scores.draws),
            scores.learned,
            scores.detail
            if other is None or other.detail == scores.detail
            else f"{scores.detail}; {other.detail}",
            None if other is None else other.interval(seed),
            None if other is None else scores.less(other, seed),
        )

    def _met(self, data: ProbedData, subjects: list[Subject]) -> list[str]:
        """Say of which judged images a network has learned before: its figures are better there than on others."""
        notes = []
        for subject in subjects:
            if subject.learned == "nothing" or not (met := self.taught(subject.name, data.judged_hashes)):
                continue
            how = (
                "trained on them"
                if subject.learned == "labels"
                else "learned from them, but for those that judged it"
            )
            notes.append(
                f"{met:,} of the {len(data.deal.judged):,} judged images are of the data of the run '{subject.name}', which "
                f"{how}: on new images its figures may be lower. A test split is never learned from."
            )
        return notes
