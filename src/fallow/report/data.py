"""What a report shows: plain values, gathered by the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fallow.record import Decision, StudyResult

if TYPE_CHECKING:
    import numpy as np

    from fallow.augment import ReachRow

MapKind = Literal["labeled", "unlabeled"]
ScoredOn = Literal["held-out", "test"]


@dataclass(frozen=True)
class MapPoint:
    """One image on the cluster map.

    Attributes:
        x: Horizontal place, any unit (the page scales all points to its frame).
        y: Vertical place, any unit, upward.
        id: The image's id.
        kind: ``labeled`` or ``unlabeled``.
        label: The given label; None for unlabeled images.
        before_label: What labels only makes of it; None draws the point in gray.
        before_confidence: Probability of ``before_label``, 0..1.
        after_label: What the chosen rung makes of it; None when there is no "after".
        after_confidence: Probability of ``after_label``, 0..1.
        thumb: WebP bytes (see `thumbnail`), shown on hover; None shows the words only.
    """

    x: float
    y: float
    id: str
    kind: MapKind
    label: str | None = None
    before_label: str | None = None
    before_confidence: float = 1.0
    after_label: str | None = None
    after_confidence: float = 1.0
    thumb: bytes | None = None


@dataclass(frozen=True)
class Thumb:
    """One image of a grid.

    Attributes:
        id: The image's id.
        image: WebP bytes (see `thumbnail`), or None.
        guess: The class that the chosen rung names.
        confidence: Its probability, 0..1.
        truth: The given label, where there is one.
    """

    id: str
    image: bytes | None
    guess: str
    confidence: float
    truth: str | None = None


@dataclass(frozen=True)
class ClassRow:
    """Precision and recall of one class.

    Attributes:
        name: The class.
        n: Images of that class that were scored.
        precision: Share of the images called so that are so; None when none was called so.
        recall: Share of the class that was found; None when ``n`` is 0.
        recall_labels_only: The same for labels only; None where it was not measured.
    """

    name: str
    n: int
    precision: float | None
    recall: float | None
    recall_labels_only: float | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows. What is empty or None vanishes, or a sentence says why it is missing.

    Attributes:
        result: What the study measured.
        run_name: Name of the run, the page's title.
        classes: Class names in the order of the columns of ``confusion``.
        decisions: Every automatic value, in order.
        audit: The JSON object of ``audit.json``.
        audit_thumbs: WebP bytes of images that the audit names (skipped, twins, leaks, conflicts), by id. Ids
            that are missing or None show no picture.
        confusion: Int (classes, classes), rows are the true class, columns the guess of the chosen rung.
        confusion_source: On which images ``confusion`` and ``per_class`` were counted.
        per_class: One row for each class.
        reach: Reach without trespass on the user's own images.
        map_points: At most 2,000 are drawn, labeled ones first.
        map_names: What the two maps show, before and after.
        misclassified: Held-out images that the chosen rung gets wrong, the most confident mistakes first.
        surest: The surest pseudo-labels, best first.
        doubtful: The most doubtful pseudo-labels, worst first.
        environment: Versions, machine, threads, by name.
        command: The command line that repeats the run.
        data: The data as the user named it.
        budget_seconds: The wall clock that was asked for; 0 hides it.
        notes: Anything that a person should know, a sentence each.
    """

    result: StudyResult
    run_name: str
    classes: Sequence[str]
    decisions: Sequence[Decision] = ()
    audit: Mapping[str, Any] = field(default_factory=dict)
    audit_thumbs: Mapping[str, bytes | None] = field(default_factory=dict)
    confusion: np.ndarray | None = None
    confusion_source: ScoredOn = "held-out"
    per_class: Sequence[ClassRow] = ()
    reach: Sequence[ReachRow] = ()
    map_points: Sequence[MapPoint] = ()
    map_names: tuple[str, str] = ("Labels only", "Chosen")
    misclassified: Sequence[Thumb] = ()
    surest: Sequence[Thumb] = ()
    doubtful: Sequence[Thumb] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    data: str = ""
    budget_seconds: float = 0.0
    notes: Sequence[str] = ()
