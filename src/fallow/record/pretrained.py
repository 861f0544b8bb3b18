"""What a pretraining run measured: the content of ``pretrain.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from fallow.record.results import Interval
from fallow.types import JsonObject

Finding: TypeAlias = Literal["better", "worse", "no difference", "undecided"]
"""What the evidence says of the trained network beside the one it started from; ``undecided`` where there are too few labels."""


@dataclass(frozen=True)
class Judged:
    """A network as it was measured; accuracies and shares are fractions.

    Attributes:
        probe: Accuracy of a linear probe on labels held out of its fit, with its 95 % interval; None without enough labels.
        knn: Accuracy of the nearest neighbors on the same labels.
        rank: RankMe: in how many directions its features spread, at most their number.
        stability: Share of an image's ten nearest images that are also those of a noised view of it.
    """

    probe: Interval | None
    knn: float | None
    rank: float
    stability: float


@dataclass(frozen=True)
class PretrainRecord:
    """The content of ``pretrain.json``.

    Attributes:
        before: The network that training started from.
        after: The trained network, on the same images.
        difference: Paired difference of the probe's accuracy, after less before, with its 95 % interval; None without enough
            labels.
        finding: What that says.
        verdict: The same in words: the sentence that a person reads first.
        leaves: Which of the two is in ``model/``.
        moved: Share of an image's ten nearest images that are others than before.
        drift: 1 - linear CKA between the features before and after: 0 where they say the same.
        method: How it learned.
        backbone: What the network is built as.
        init: What it started from: ``pretrained`` or ``scratch``.
        trainable: What of it changed: ``last`` blocks or ``all``.
        size: Side in pixels of the images that it saw.
        images: Images that it learned from.
        labels: How many of them it learned from with their labels; none of these judges.
        judged: Labeled images that were held out of training and that it was judged on.
        test: Images of ``test/``, which were not touched.
        classes: Number of classes of the judged images.
        steps: Steps that were done.
        planned: Steps that were planned.
        batch: Images a step.
        training_seconds: Time of the steps, over all processes that went on with the run.
        images_per_second: Images learned from a second, each with all of its views.
        seconds: From the start of the process to the last file.
        seed: Seed of the run.
        findings: What the health checks said, a sentence each.
        notes: What else a person should know, a sentence each.
        skipped: Files that could not be used.
    """

    before: Judged
    after: Judged
    difference: Interval | None
    finding: Finding
    verdict: str
    leaves: Literal["trained", "start"]
    moved: float
    drift: float
    method: str
    backbone: str
    init: str
    trainable: str
    size: int
    images: int
    judged: int
    test: int
    classes: int
    steps: int
    planned: int
    batch: int
    training_seconds: float
    images_per_second: float
    seconds: float
    seed: int
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    skipped: int = 0
    labels: int = 0

    def to_json(self) -> JsonObject:
        """Return the record as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PretrainRecord:
        """Rebuild a record from `to_json`; what is not of it is left out."""

        def interval(value: dict[str, Any] | None) -> Interval | None:
            return Interval(**value) if value else None

        def judged(value: dict[str, Any]) -> Judged:
            return Judged(**{**value, "probe": interval(value["probe"])})

        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(
            **{
                **known,
                "before": judged(data["before"]),
                "after": judged(data["after"]),
                "difference": interval(data["difference"]),
                "findings": tuple(data["findings"]),
                "notes": tuple(data["notes"]),
            }
        )
