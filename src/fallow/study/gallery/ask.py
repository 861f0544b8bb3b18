"""Images that nobody has seen, put to a gallery: the nearest ones, and whether the nearest is near enough to be a match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fallow.config.gallery import LookupConfig
from fallow.errors import ConfigError, RunError
from fallow.study.gallery.gallery import Gallery
from fallow.study.gallery.nearest import INDEX, nearest, through_index
from fallow.study.probing.subject import Named, Part, Subject
from fallow.study.rung import ImageSet
from fallow.types import Progress


@dataclass(frozen=True)
class Near:
    """An image of the gallery near to one that was asked about."""

    path: str
    label: str | None
    distance: float


def subject_of(gallery: Gallery, folder: Path, own: Named | None, offline: bool) -> Subject:
    """Return what made the vectors of a gallery, with the same weights, sizes and views.

    Raises:
        ConfigError: It was a network from Python, which is not there.
        RunError: It has other weights now.
    """
    made = gallery.made_by
    if made.own and own is None:
        raise ConfigError(
            f"the images in '{folder}' were embedded by a network that was handed in from Python: hand it to fallow.find as "
            "model=, or embed them again with a model that has a name"
        )
    named = own or Named(
        made.name, weights=None if made.weights is None else Path(made.weights), offline=offline
    )
    loaded = named.load()
    there = {(part.backbone.name, part.backbone.weights_id): part.backbone for part in loaded.parts}
    parts = []
    for name, weights_id, size, views in made.parts:
        if (name, weights_id) not in there:
            raise RunError(
                f"the images in '{folder}' were embedded by '{made.name}' with other weights than it has now: embed them again, "
                "or put the weights back"
            )
        parts.append(Part(there[name, weights_id], size, views))
    return Subject(made.name, loaded.about, tuple(parts), loaded.learned)


def threshold_of(gallery: Gallery, config: LookupConfig) -> tuple[float | None, str]:
    """Return the distance beyond which there is no match, None where all match, and what it is in words.

    Raises:
        ConfigError: A threshold was asked for that the gallery does not have.
    """
    known = gallery.calibration
    if config.precision is not None:
        if config.threshold != "auto":
            raise ConfigError("--precision and --threshold both say where a match ends: give one of them")
        reached = [t for t in sorted(known.at) if t >= config.precision]
        if not reached:
            most = max(known.at, default=None)
            hint = "it has too few labels" if most is None else f"it reaches {100 * most:g} %"
            raise ConfigError(
                f"no distance of this gallery reaches a precision of {100 * config.precision:g} %: {hint}"
            )
        found = known.at[reached[0]]
        return found.distance, _told(found.distance, found.precision, found.recall)
    if config.threshold == "none":
        return None, ""
    if not isinstance(config.threshold, str):
        return config.threshold, f"a cosine distance of {config.threshold:.3f}, as asked for"
    if (best := known.usually) is not None:
        return best.distance, _told(best.distance, best.precision, best.recall)
    if known.usual is None:
        return None, ""
    words = (
        f"a cosine distance of {known.usual:.3f}, within which 99 % of the gallery's own images have their nearest; what is a match "
        "of a class needs labels"
    )
    return known.usual, words


def _told(distance: float, precision: float, recall: float) -> str:
    return (
        f"a cosine distance of {distance:.3f}: among the gallery's own images the nearest one within it is of the same class "
        f"{100 * precision:.1f} % of the time, and {100 * recall:.1f} % of the labeled ones have a match of their own class"
    )


def ask(
    gallery: Gallery,
    folder: Path,
    subject: Subject,
    names: Sequence[str],
    hashes: Sequence[str],
    read: Callable[[str], NDArray[np.uint8]],
    k: int,
    progress: Progress,
) -> list[list[Near]]:
    """Return the nearest images of the gallery for each image, nearest first.

    Args:
        gallery: Images that are looked up.
        folder: Where it lies; an index there is used.
        subject: What made its vectors.
        names: Images that ask.
        hashes: Content of each, for the cache of vectors.
        read: Returns the pixels of one by its name, uint8 (H, W, 3).
        k: How many.
        progress: Who watches.
    """
    queries = subject.embed(ImageSet(tuple(names), tuple(hashes), read), "images", progress)
    index = folder / INDEX
    if index.is_file():
        rows, distance = through_index(index, queries, k)
    else:
        rows, distance = nearest(queries, gallery.vectors, k)
    return [
        [
            Near(gallery.ids[r], str(gallery.labels[r]) or None, round(float(d), 5))
            for r, d in zip(near, far, strict=True)
        ]
        for near, far in zip(rows.tolist(), distance.tolist(), strict=True)
    ]
