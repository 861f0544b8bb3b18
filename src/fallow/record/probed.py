"""What was measured of a backbone's features: the content of ``probe.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fallow.record.results import Interval
from fallow.types import JsonObject


@dataclass(frozen=True)
class ProbeFigure:
    """One figure of one protocol.

    Attributes:
        protocol: ``knn``, ``linear`` and so on.
        name: Its key, such as ``knn@20``.
        title: The same in words.
        share: It is a share of images, told in percent; else a number of its own scale.
        value: Its mean over draws, with a 95 % interval and the number of images that were judged.
        spread: Standard deviation over the draws; None where there is one.
        draws: Number of draws or repeats.
        learned: Images that were learned from, the fewest of all fits; 0 where no label is learned from.
        detail: What was settled on the way.
        against: The same of the other backbone; None without one.
        difference: Paired difference to the other, on the same images and draws, with a 95 % interval.
    """

    protocol: str
    name: str
    title: str
    share: bool
    value: Interval
    spread: float | None
    draws: int
    learned: int
    detail: str = ""
    against: Interval | None = None
    difference: Interval | None = None

    @property
    def finding(self) -> str:
        """What the difference shows: ``better``, ``worse``, or ``undecided``."""
        if self.difference is None:
            return ""
        return "better" if self.difference.low > 0 else "worse" if self.difference.high < 0 else "undecided"


@dataclass(frozen=True)
class ProbedNetwork:
    """A network whose features were measured.

    Attributes:
        name: As the user named it.
        about: What it is, in a few words.
        dim: Length of its features.
        sizes: Side in pixels that it saw, one for each network of which it consists.
    """

    name: str
    about: str
    dim: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class ProbeRecord:
    """The content of ``probe.json``.

    Attributes:
        data: As the user named them.
        network: What was measured.
        against: What it was compared with; None without.
        sentence: What a person reads first.
        judged_on: Which images were judged and what was learned from, in words.
        judged: Images that were judged.
        labeled: Labeled images in all.
        classes: Number of classes.
        chance: How often whoever always names the most frequent class is right.
        figures: Everything that was measured.
        notes: What else a person should know, a sentence each.
        seed: Of everything random.
        seconds: From start to end.
    """

    data: str
    network: ProbedNetwork
    against: ProbedNetwork | None
    sentence: str
    judged_on: str
    judged: int
    labeled: int
    classes: int
    chance: float
    figures: tuple[ProbeFigure, ...]
    notes: tuple[str, ...]
    seed: int
    seconds: float

    def figure(self, name: str) -> ProbeFigure:
        """Return a figure by its key.

        Raises:
            KeyError: It was not measured.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    def to_json(self) -> JsonObject:
        """Return the record as a JSON object; shares are fractions, not percentages."""
        found: dict[str, Any] = asdict(self)
        for row, figure in zip(found["figures"], self.figures, strict=True):
            if figure.difference is not None:
                row["finding"] = figure.finding
        return found
