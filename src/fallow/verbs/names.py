"""Names for runs that people can say to each other."""

from __future__ import annotations

import random
from collections.abc import Iterator

_FIRST = [
    "amber",
    "birch",
    "clover",
    "coral",
    "dusky",
    "early",
    "fern",
    "golden",
    "hazel",
    "heath",
    "indigo",
    "ivory",
    "juniper",
    "linden",
    "lunar",
    "maple",
    "meadow",
    "mossy",
    "olive",
    "pearl",
    "quiet",
    "rowan",
    "russet",
    "sandy",
    "silver",
    "spruce",
    "still",
    "sunny",
    "tawny",
    "umber",
    "velvet",
    "willow",
]
_SECOND = [
    "badger",
    "crane",
    "curlew",
    "dove",
    "falcon",
    "finch",
    "fox",
    "hare",
    "heron",
    "ibis",
    "jay",
    "kestrel",
    "lark",
    "lynx",
    "marten",
    "mole",
    "newt",
    "otter",
    "owl",
    "plover",
    "quail",
    "robin",
    "seal",
    "stoat",
    "stork",
    "swift",
    "tern",
    "thrush",
    "toad",
    "vole",
    "wren",
]


def names() -> Iterator[str]:
    """Yield names such as ``coral-otter`` in random order, then numbered ones."""
    # Its own generator, seeded by the system: a name is no part of a run's result.
    pairs = [f"{a}-{b}" for a in _FIRST for b in _SECOND]
    random.SystemRandom().shuffle(pairs)
    yield from pairs
    for number in range(2, 100):
        yield from (f"{pair}-{number}" for pair in pairs)
