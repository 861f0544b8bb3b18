"""Every automatic value is a Decision: what was chosen, by which rule, on what evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fallow.types import Json, JsonObject

DecisionSource = Literal["rule", "search", "user"]


@dataclass(frozen=True)
class Decision:
    """One resolved value.

    Attributes:
        name: Dotted key as in the config (``embed.views``), so that ``--set name=value`` pins it.
        value: What is used; plain JSON.
        source: ``rule`` (follows from the data), ``search`` (measured on held-out labels), ``user`` (asked for).
        rule: The rule in words, one sentence.
        evidence: The numbers the rule looked at.
        pinned: True when the user set it.
    """

    name: str
    value: Json
    source: DecisionSource
    rule: str
    evidence: JsonObject = field(default_factory=dict)
    pinned: bool = False

    def to_json(self) -> JsonObject:
        """Return the decision as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Decision:
        """Rebuild a decision from `to_json`."""
        return cls(**data)


class DecisionLog:
    """The decisions of one run, by name, in the order in which they were made."""

    def __init__(self, decisions: list[Decision] | None = None) -> None:
        self._by_name: dict[str, Decision] = {d.name: d for d in decisions or []}

    def add(self, decision: Decision) -> Decision:
        """Record ``decision`` (replacing an earlier one of the same name) and return it."""
        self._by_name[decision.name] = decision
        return decision

    def get(self, name: str) -> Decision | None:
        """Return the decision called ``name``, or None."""
        return self._by_name.get(name)

    def since(self, known: Iterable[Decision]) -> list[Decision]:
        """Return what was decided, or decided otherwise, since the log was as ``known``."""
        before = {d.name: d for d in known}
        return [d for d in self if before.get(d.name) != d]

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def to_json(self) -> list[Json]:
        """Return all decisions as a list of JSON objects."""
        return [d.to_json() for d in self]

    @classmethod
    def from_json(cls, data: list[dict[str, Any]]) -> DecisionLog:
        """Rebuild a log from `to_json`."""
        return cls([Decision.from_json(d) for d in data])
