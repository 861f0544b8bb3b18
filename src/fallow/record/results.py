"""What a study measured: intervals, rungs, the waterfall and the whole result as ``result.json`` holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from fallow.types import JsonObject, RungName

PoolUse: TypeAlias = Literal["learned", "none", "unusable", "not asked", "no time", "no time then"]
"""Whether any rung learned from the unlabeled images, or why none did: there were none, none could be used, no such rung was
asked for, the budget left no time, or left none in the run that this one follows."""

Unmeasured: TypeAlias = Literal["", "one label in a class", "all labels of a class in one group"]
"""Why nothing could be held out, to be read behind "with": images of one group are never told apart."""
ONE_LABEL: Unmeasured = "one label in a class"
ONE_GROUP: Unmeasured = "all labels of a class in one group"


@dataclass(frozen=True)
class Interval:
    """A measured value with its 95 % interval.

    Attributes:
        value: The estimate. Accuracies are fractions.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Number of held-out images behind it.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Scored:
    """A rung with what was measured of it.

    Attributes:
        rung: Name of the rung.
        held_out: Accuracy on held-out labels; None where nothing can be held out.
        test: Accuracy on ``test/``; None without one.
        balanced_held_out: Mean recall over the classes on held-out labels.
        balanced_test: Mean recall over the classes on ``test/``.
    """

    rung: RungName
    held_out: Interval | None = None
    test: float | None = None
    balanced_held_out: float | None = None
    balanced_test: float | None = None


@dataclass(frozen=True)
class RungResult(Scored):
    """One row of the ladder.

    Attributes:
        kept: True when the rung became the best so far.
        p_better: Probability that it beats the best below it (prior and evidence); None for the first.
        prior_gain: Gain expected before looking at any held-out label, in accuracy.
        gain: Paired difference to labels only on held-out labels, None where nothing can be held out.
        seconds: Time the rung took, folds and refit.
        note: Anything a person should know (cut short, skipped, why).
    """

    kept: bool = False
    p_better: float | None = None
    prior_gain: float | None = None
    gain: Interval | None = None
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Counts:
    """How many images took part, after bad files and twins were set aside."""

    labeled: int
    unlabeled: int
    test: int
    classes: int
    validation: int = 0
    skipped: int = 0
    extra: int = 0


@dataclass(frozen=True)
class WaterfallBar:
    """One bar of the waterfall: the error after a rung and its paired gain on the rung before.

    Attributes:
        rung: Name of the rung.
        error: Held-out error after it, with a 95 % interval.
        gain: Paired change of accuracy against the first bar; None for the first.
        seconds: What it cost.
        chosen: True for the rung that the user gets.
        folds: Folds it was measured on.
    """

    rung: RungName
    error: Interval
    gain: Interval | None
    seconds: float
    chosen: bool
    folds: int


@dataclass(frozen=True)
class Waterfall:
    """Error before, error after, rung by rung; all bars are measured, none is interpolated."""

    bars: tuple[WaterfallBar, ...] = ()


@dataclass(frozen=True)
class ExtraUse:
    """What became of the labeled images of another origin.

    Attributes:
        weight: What all of them count in the heads that learned from them, the labels being 1; 0: they were left out.
        asked: The weight was asked for.
        gain: Paired gain of the linear model that learned from labels and extra images over labels only, on held-out labels;
            None where it was not measured.
    """

    weight: float
    asked: bool = False
    gain: Interval | None = None


@dataclass(frozen=True)
class StudyResult:
    """The content of ``result.json``. Accuracies are fractions, never percentages.

    Attributes:
        task: ``classification`` or ``binary``.
        metric: Headline metric, ``accuracy``.
        seed: Seed of the run.
        seconds: From process start to the last file written.
        counts: Images that took part.
        labels_only: The better of probe and finetune by held-out accuracy.
        chosen: What the user gets; its held-out figure is corrected for having been chosen.
        worth_labels: How many labels the unlabeled images were worth; None where it cannot be told.
        rungs: All finished rungs, in order.
        claim: True when the 95 % paired interval of the gain over labels only excludes no gain.
        verdict: The sentence a person reads first.
        waterfall: The bars behind the picture.
        export_agreement: Share of checked images on which the exported ONNX file and the model in memory name the
            same class.
        test_reads: How often, and by what, the test labels were read.
        labels_worth_note: Why ``worth_labels`` is what it is.
        notes: What a person should know of the run, a sentence each: what was skipped or cut short.
        pool_use: Whether any rung learned from the unlabeled images, or why none did.
        unmeasured: Why nothing could be held out; empty where something was.
        extra: What became of extra images; None where none were given, or no rung got to ask.
    """

    task: str
    seed: int
    seconds: float
    counts: Counts
    labels_only: Scored
    chosen: Scored
    rungs: tuple[RungResult, ...]
    claim: bool
    verdict: str
    metric: str = "accuracy"
    worth_labels: int | None = None
    labels_worth_note: str = ""
    waterfall: Waterfall = field(default_factory=Waterfall)
    export_agreement: float | None = None
    test_reads: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pool_use: PoolUse = "learned"
    unmeasured: Unmeasured = ""
    extra: ExtraUse | None = None

    @property
    def extra_learned(self) -> bool:
        """Whether anything learned from extra images."""
        return self.extra is not None and self.extra.weight > 0

    @property
    def why_unmeasured(self) -> str:
        """Why nothing could be held out, to be read behind "with"; results of earlier versions do not say it."""
        return self.unmeasured or ONE_LABEL

    def to_json(self) -> JsonObject:
        """Return the result as a JSON object (the content of ``result.json``)."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StudyResult:
        """Rebuild a result from `to_json`."""

        def interval(value: dict[str, Any] | None) -> Interval | None:
            return Interval(**value) if value else None

        def scored(value: dict[str, Any]) -> Scored:
            return Scored(**{**value, "held_out": interval(value["held_out"])})

        def rung(value: dict[str, Any]) -> RungResult:
            return RungResult(
                **{**value, "held_out": interval(value["held_out"]), "gain": interval(value["gain"])}
            )

        def extra(value: dict[str, Any] | None) -> ExtraUse | None:
            return ExtraUse(**{**value, "gain": interval(value["gain"])}) if value else None

        def bar(value: dict[str, Any]) -> WaterfallBar:
            return WaterfallBar(
                **{**value, "error": Interval(**value["error"]), "gain": interval(value["gain"])}
            )

        return cls(
            **{
                **data,
                "counts": Counts(**data["counts"]),
                "labels_only": scored(data["labels_only"]),
                "chosen": scored(data["chosen"]),
                "rungs": tuple(rung(r) for r in data["rungs"]),
                "waterfall": Waterfall(tuple(bar(b) for b in data["waterfall"]["bars"])),
                "test_reads": tuple(data["test_reads"]),
                "notes": tuple(data.get("notes", ())),
                "extra": extra(data.get("extra")),
            }
        )
