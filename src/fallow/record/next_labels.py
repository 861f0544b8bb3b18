"""What more labels would bring, and which images to label next: plain values for the screen, the page and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from fallow.record.decision import Decision
from fallow.record.results import Counts
from fallow.types import JsonObject, RungName


@dataclass(frozen=True)
class Expected:
    """An error that is expected with a number of labels.

    Attributes:
        labels: How many labels, those at hand included.
        error: Median of what is expected, a fraction.
        low: Lower end of the 80 % interval.
        high: Its upper end.
    """

    labels: int
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class MeasuredError:
    """A held-out error that was measured with a part of the labels.

    Attributes:
        labels: Mean number of labels that were learned from.
        error: Held-out error, a fraction.
        low: Lower end of its own 80 % interval, by the number of held-out images.
        high: The upper end.
    """

    labels: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class RungForecast:
    """The learning curve of one rung.

    Attributes:
        rung: ``probe`` (labels only) or ``propagate``.
        measured: What was measured, fewest labels first.
        now: What is expected with the labels at hand.
        expected: What is expected with more of them, fewest first.
        curve: The same for drawing, from the fewest measured labels to the most expected.
        exponent: How fast the error falls: the median of c in ``error = a + b n^-c``.
        asymptote: The median of a: what no number of labels takes away.
    """

    rung: RungName
    measured: tuple[MeasuredError, ...]
    now: Expected
    expected: tuple[Expected, ...]
    curve: tuple[Expected, ...]
    exponent: float
    asymptote: float


@dataclass(frozen=True)
class Forecast:
    """The content of ``forecast.json``. Errors are fractions, intervals hold 80 %.

    Attributes:
        data: The data as the user named them.
        seed: Seed of the forecast.
        counts: Images that took part.
        rungs: The learning curves; none where nothing can be said.
        best: The rung that the first sentence is about.
        more: How many more labels the first sentence is about.
        sentence: What a person reads first.
        worth_labels: How many labels the unlabeled images are worth; None where it cannot be told.
        worth_note: Why that is what it is.
        price_per_label: What one label costs; None where it was not said.
        notes: What a person should know, a sentence each.
        decisions: What was decided.
        seconds: From the start to the last file written.
    """

    data: str
    seed: int
    counts: Counts
    sentence: str
    rungs: tuple[RungForecast, ...] = ()
    best: RungName = ""
    more: int = 0
    worth_labels: int | None = None
    worth_note: str = ""
    price_per_label: float | None = None
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    seconds: float = 0.0

    def rung(self, name: RungName) -> RungForecast:
        """Return the curve of one rung.

        Raises:
            KeyError: There is none.
        """
        return {one.rung: one for one in self.rungs}[name]

    def to_json(self) -> JsonObject:
        """Return the forecast as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Suggestion:
    """An image that should be labeled.

    Attributes:
        path: Its id: the path relative to the data.
        reason: Why, in a few words.
        score: What labeling it is worth among the others, 1 for the first.
        cluster: Number of the suggestion whose likes it stands for: all images nearest to it are in its cluster.
        like: Share of the unlabeled images that are in its cluster.
        guess: What it is taken for now; None where nothing is known.
        confidence: How surely; 0 without a guess.
    """

    path: str
    reason: str
    score: float
    cluster: int
    like: float = 0.0
    guess: str | None = None
    confidence: float = 0.0


@dataclass(frozen=True)
class Suggestions:
    """The content of ``suggest.json``.

    Attributes:
        data: The data as the user named them.
        seed: Seed of the suggestions.
        counts: Images that took part.
        asked: How many suggestions were asked for.
        items: What to label, the most useful first.
        sentence: What a person reads first.
        foreign: Images that were left out because they look like none of the others.
        twins: Images that were left out because they are nearly the same as one that is labeled or suggested.
        notes: What a person should know, a sentence each.
        decisions: What was decided.
        seconds: From the start to the last file written.
    """

    data: str
    seed: int
    counts: Counts
    asked: int
    items: tuple[Suggestion, ...]
    sentence: str
    foreign: int = 0
    twins: int = 0
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = field(default=())
    seconds: float = 0.0

    def to_json(self) -> JsonObject:
        """Return the suggestions as a JSON object."""
        return asdict(self)
