"""Reach without trespass: how far may noise go before it carries an image out of its class?

Two noised views of one image must land close together; where noise carries one image onto *another image of
its class*, these two become neighbors too, and classes turn into clusters. So noise should reach as far as
other images of its class, and no further. Both are measured here, on the user's own images, in the space of
frozen embeddings.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fallow.augment.transforms import COLOR_ONLY, TRANSFORMS, Transform
from fallow.types import Progress, silent

STANDARD = (
    "hflip",
    "vflip",
    "rotate",
    "crop",
    "translate",
    "brightness",
    "contrast",
    "hue",
    "gray",
    "blur",
    "noise",
    "cutout",
)
"""The transforms a report shows, those that people argue about first."""
STRENGTHS = (0.1, 0.3, 0.6, 1.0)
_SAME = 0.9999  # cosine above which a reference row is the image itself or its twin
_MAX_REFERENCE = 5000  # enough for neighbors to mean something, and a matmul of milliseconds
_FLOAT = NDArray[np.float32]


@dataclass(frozen=True)
class ReachRow:
    """One transform at one strength. Shares are fractions; the rest, ``1 - reach - trespass``, stayed at
    home.

    Attributes:
        transform: Name in `TRANSFORMS`.
        strength: 0..1; 1 for transforms that have no degrees.
        reach: Share of noised images that came to lie among *other* images of their class.
        trespass: Share of noised images that came to lie in another class.
        n: Images behind the shares.
        moved: Median distance from the clean image, in units of its distance to the nearest other of its
            class.
    """

    transform: str
    strength: float
    reach: float
    trespass: float
    n: int
    moved: float = 0.0


def measure_reach(
    images: Tensor,
    classes: Sequence[int] | NDArray[np.integer],
    embed: Callable[[Tensor], NDArray[np.floating]],
    reference: NDArray[np.floating],
    reference_classes: Sequence[int] | NDArray[np.integer],
    *,
    own: Sequence[int] | NDArray[np.integer] | None = None,
    transforms: Iterable[str] = STANDARD,
    strengths: Sequence[float] = STRENGTHS,
    neighbors: int = 5,
    seed: int = 0,
    seconds: float | None = None,
    progress: Progress = silent,
) -> list[ReachRow]:
    """Measure reach and trespass of transforms on given images.

    Let ``c`` be the embedding of a clean image of class ``y``, ``z`` that of its noised self, ``R`` the
    reference without the image itself, all of unit length; s(a, b) = a . b. The vote v(z) is the commonest
    class among the ``neighbors`` rows of R nearest to z (ties: the nearer), no more of them than y has rows
    in R. Images with v(c) != y, or alone in their class, are left out: they cannot trespass, or cannot reach.
    Then each noised image does one of three:

    * it *trespasses*: v(z) != y, its neighbors are now of another class;
    * it *reaches*: v(z) = y, and another image of its class is at least as near as its own clean self,
      max over r in R with class y of s(z, r) >= s(z, c);
    * it *stays*: v(z) = y, and its own clean self is nearer than any other of its class.

    Distance alone would not do: noise that throws an image into emptiness moves it far and connects it to
    nothing.

    Args:
        images: (n, 3, S, S), uint8 or float in 0..1; a few dozen, of all classes.
        classes: (n,) class of each, labels or sure pseudo-labels.
        embed: Maps float images (n, 3, S, S) in 0..1 to vectors (n, d) in the space of ``reference``.
        reference: (m, d) vectors of clean images; rows beyond 5,000 are sampled.
        reference_classes: (m,) their classes.
        own: (n,) row of ``reference`` that is the image itself, -1 for none. Rows that coincide with the
            image are left out in any case, its twins too.
        transforms: Names in `TRANSFORMS`. Those that only touch color are left out when no image has any.
        strengths: Strengths in 0..1. Transforms without degrees are measured once, as strength 1.
        neighbors: Neighbors that vote.
        seed: Seed of directions and noise; each row has its own, so that rows do not depend on one another.
        seconds: Stop before a row that would end later than this; None measures all.
        progress: Told of each row.

    Returns:
        A row for each transform and strength, in the order asked for. Empty when no image can be judged.

    Raises:
        ValueError: Shapes disagree, or a transform is not known.
    """
    begun = time.monotonic()
    chosen = [_named(name) for name in transforms]
    x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    y = np.asarray(classes)
    if x.ndim != 4 or x.shape[1] != 3 or len(x) != len(y) or len(reference) != len(reference_classes):
        raise ValueError(
            f"images should be (n, 3, S, S) with n classes, not {tuple(x.shape)} and {len(y)}; "
            f"the reference has {len(reference)} rows and {len(reference_classes)} classes"
        )
    if len(x) == 0 or len(reference) == 0:
        return []
    clean = _unit(embed(x))
    crowd = _Crowd(clean, reference, np.asarray(reference_classes), y, own, neighbors, seed)
    kept = crowd.judged
    if not kept.any():
        return []
    if not _has_color(x):
        chosen = [transform for transform in chosen if transform.name not in COLOR_ONLY]
    cells = [(t, s) for t in chosen for s in (strengths if t.graded else (1.0,))]
    rows: list[ReachRow] = []
    for done, (transform, strength) in enumerate(cells):
        spent = time.monotonic() - begun
        if seconds is not None and spent * (done + 2) / (done + 1) > seconds:  # the clean pass counts as one
            break
        progress("reach without trespass", done, len(cells))
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{transform.name}/{strength}".encode()))
        noised = _unit(embed(transform.apply(x, strength, generator)[0]))
        rows.append(crowd.row(transform.name, strength, noised))
    progress("reach without trespass", len(cells), len(cells))
    return rows


def furthest(rows: Iterable[ReachRow], limit: float = 0.1) -> dict[str, float]:
    """Return, for each transform, the greatest strength up to which trespass stays within ``limit``.

    Transforms that trespass more at their weakest are not in the mapping: leave them off.
    """
    by_name: dict[str, list[ReachRow]] = {}
    for row in rows:
        by_name.setdefault(row.transform, []).append(row)
    result: dict[str, float] = {}
    for name, group in by_name.items():
        for row in sorted(group, key=lambda r: r.strength):
            if row.trespass > limit:
                break
            result[name] = row.strength
    return result


def limits_from(
    rows: Iterable[ReachRow], defaults: Mapping[str, float], limit: float = 0.1
) -> dict[str, float]:
    """Return how far each transform may go: as measured, else as by default.

    The rule:

    * measured, and within ``limit`` up to some strength: that strength, be it more or less than the default;
    * measured, and beyond ``limit`` at its weakest: left out, which means not allowed;
    * not measured: its default, if it has one.

    Args:
        rows: What was measured.
        defaults: Transform -> greatest strength where nothing was measured.
        limit: Share of noised images that may come to lie in another class.
    """
    rows = list(rows)
    measured = {row.transform for row in rows}
    unmeasured = {name: most for name, most in defaults.items() if name not in measured}
    return {**unmeasured, **furthest(rows, limit)}


class _Crowd:
    """The reference as seen from the images under test: who is near, and what they vote."""

    def __init__(
        self,
        clean: _FLOAT,
        reference: NDArray[np.floating],
        reference_classes: NDArray[np.integer],
        y: NDArray[np.integer],
        own: Sequence[int] | NDArray[np.integer] | None,
        neighbors: int,
        seed: int,
    ) -> None:
        rows = np.arange(len(reference))
        selves = np.full(len(y), -1) if own is None else np.asarray(own)
        if len(rows) > _MAX_REFERENCE:
            rows = np.sort(np.random.default_rng(seed).permutation(rows)[:_MAX_REFERENCE])
        self._clean, self._y = clean, y
        self._z, self._classes = _unit(reference[rows]), reference_classes[rows]
        self._self = (clean @ self._z.T > _SAME) | (selves[:, None] == rows[None])
        self._mates = (self._classes[None] == y[:, None]) & ~self._self
        self._neighbors = np.minimum(neighbors, self._mates.sum(1))
        vote, mate = self._look(clean)
        self.judged = (vote == y) & (self._neighbors > 0)
        self._unit_distance = np.sqrt(np.maximum(2 - 2 * mate, 1e-12))

    def _look(self, z: _FLOAT) -> tuple[NDArray[np.integer], _FLOAT]:
        """Return the vote, (n,), and the similarity to the nearest other of the own class, (n,)."""
        similarity = np.where(self._self, -np.inf, z @ self._z.T)
        count = min(max(int(self._neighbors.max()), 1), similarity.shape[1])
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
        votes: NDArray[np.integer] = np.empty(len(z), dtype=np.int64)
        for i, row in enumerate(nearest):
            votes[i] = _commonest(self._classes[row[: max(int(self._neighbors[i]), 1)]])
        return votes, np.where(self._mates, similarity, -1.0).max(1)

    def row(self, name: str, strength: float, z: _FLOAT) -> ReachRow:
        """Judge the noised images ``z``."""
        vote, mate = self._look(z)
        home = (z * self._clean).sum(1)
        trespass = vote != self._y
        reach = ~trespass & (mate >= home)
        moved = np.sqrt(np.maximum(2 - 2 * home, 0)) / self._unit_distance
        kept = self.judged
        return ReachRow(
            name,
            float(strength),
            float(reach[kept].mean()),
            float(trespass[kept].mean()),
            int(kept.sum()),
            float(np.median(moved[kept])),
        )


def _commonest(classes: NDArray[np.integer]) -> int:
    """Return the commonest class; of equally common ones that which comes first (is nearest)."""
    values, first, counts = np.unique(classes, return_index=True, return_counts=True)
    return int(values[np.lexsort((first, -counts))[0]])


def _unit(z: NDArray[np.floating]) -> _FLOAT:
    values = np.asarray(z, dtype=np.float32)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(length, 1e-12), dtype=np.float32)


def _has_color(x: Tensor) -> bool:
    return bool((x - x.mean(1, keepdim=True)).abs().max() > 1e-3)


def _named(name: str) -> Transform:
    if name not in TRANSFORMS:
        raise ValueError(f"'{name}' is not a transform; there are {', '.join(TRANSFORMS)}")
    return TRANSFORMS[name]
