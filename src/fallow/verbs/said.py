"""What a verb gives back when there is nothing to keep but words and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from fallow.types import JsonObject


@dataclass(frozen=True)
class Said:
    """An answer that can be printed for a person or for a script.

    Attributes:
        text: For a person.
        data: The same for a script.
    """

    text: str
    data: JsonObject = field(default_factory=dict)

    def screen(self) -> str:
        """Return the text for a terminal, with a line end."""
        return self.text.rstrip("\n") + "\n"

    def to_json(self) -> JsonObject:
        """Return the answer as JSON."""
        return self.data
