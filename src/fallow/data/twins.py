"""Finding images that are the same picture: the same file, the same pixels, or encoded again.

A perceptual hash (the signs of the lowest frequencies of a cosine transform: Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010) proposes pairs; the prints of both images then have to
agree in shape, color, brightness and, above all, in detail. What two photos of one kind share is mostly
coarse (sky above, ground below; text on white), so the correlation that counts is the one left after local
means are taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.fft import dct
from scipy.ndimage import uniform_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fallow.data.scan import Print, Seen

How: TypeAlias = Literal["same file", "same pixels", "encoded again"]
Ints: TypeAlias = npt.NDArray[np.int64]

RADIUS = 7
"""Bits of 64 in which the perceptual hashes of twins may differ."""

CORRELATION = 0.98
"""Smallest correlation of the 64 x 64 prints, whole."""

DETAIL_CORRELATION = 0.85
"""Smallest correlation of what is left of the prints without their local means (9 x 9)."""

LEAST_DETAIL = 1.5
"""Standard deviation of the detail, in gray levels, below which it is noise and a likeness means nothing."""

MEAN_DIFFERENCE = 8.0
"""Largest mean difference of brightness between prints, in gray levels; encoding again stays far below."""

WORST_DIFFERENCE = 20.0
"""Largest mean difference of brightness in any 4 x 4 block of the prints."""

WORST_RATIO = 7.0
"""How many times the mean difference (and half a level) the worst block may differ.

Encoding changes an image all over; a form filled in twice, or a shirt with another print, in one place.
"""

COLOR_DIFFERENCE = 20.0
"""Largest difference between the mean colors of any sixteenth of the images."""

_BLOCK = 1 << 21


@dataclass(frozen=True)
class Alike:
    """Indices of images that show the same picture, ascending, and how it was told (the weakest link)."""

    members: tuple[int, ...]
    how: How


def find_twins(seen: Sequence[Seen]) -> list[Alike]:
    """Return all groups of two and more images that are the same picture.

    Images whose short side is below 48 pixels (they have no print) are twins only if all pixels are equal.
    """
    first: dict[str, int] = {}
    links: list[tuple[int, int]] = []
    for index, image in enumerate(seen):
        if (earlier := first.setdefault(image.pixel_hash, index)) != index:
            links.append((earlier, index))
    prints = [(i, p) for i in first.values() if (p := seen[i].print) is not None]
    links += [(prints[a][0], prints[b][0]) for a, b in _alike_prints(seen, prints)]
    if not links:
        return []
    ends = np.array(links, dtype=np.int64).T
    graph = coo_array((np.ones(len(links)), (ends[0], ends[1])), shape=(len(seen), len(seen)))
    component = connected_components(graph, directed=False)[1]
    groups: dict[int, list[int]] = {}
    for index in np.unique(ends).tolist():
        groups.setdefault(int(component[index]), []).append(index)
    return [Alike(tuple(members), _how([seen[i] for i in members])) for members in groups.values()]


def _how(images: list[Seen]) -> How:
    if len({image.byte_hash for image in images}) == 1:
        return "same file"
    return "same pixels" if len({image.pixel_hash for image in images}) == 1 else "encoded again"


def _alike_prints(seen: Sequence[Seen], prints: list[tuple[int, Print]]) -> list[tuple[int, int]]:
    """Return confirmed pairs as positions in ``prints``."""
    if len(prints) < 2:
        return []
    gray = np.stack([p.gray.astype(np.uint8, copy=False) for _, p in prints])
    color = np.stack([p.color for _, p in prints if p.color is not None])
    aspect = np.log([seen[i].width / seen[i].height for i, _ in prints])
    hashes, detail = _describe(gray)
    usable = np.flatnonzero(detail >= LEAST_DETAIL)
    confirmed: list[tuple[int, int]] = []
    for left, right in _near_pairs(hashes[usable]):
        a, b = usable[left], usable[right]
        near = np.abs(aspect[a] - aspect[b]) < 0.04
        near &= np.abs(color[a].astype(np.int16) - color[b]).max(axis=(1, 2, 3)) <= COLOR_DIFFERENCE
        a, b = a[near], b[near]
        for at in range(0, len(a), 1024):
            i, j = a[at : at + 1024], b[at : at + 1024]
            same = _same_picture(gray[i].astype(np.float32), gray[j].astype(np.float32))
            confirmed += zip(i[same].tolist(), j[same].tolist(), strict=True)
    return confirmed


def _same_picture(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    difference = np.abs(a - b)
    mean = difference.mean(axis=(1, 2))
    worst = difference.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4)).max(axis=(1, 2))
    close = (mean <= MEAN_DIFFERENCE) & (worst <= WORST_DIFFERENCE) & (worst <= 0.5 + WORST_RATIO * mean)
    close &= _correlation(a, b) >= CORRELATION
    close &= _correlation(_detail(a), _detail(b)) >= DETAIL_CORRELATION
    return np.asarray(close)


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    a = a - a.mean(axis=(1, 2), keepdims=True)
    b = b - b.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    return np.asarray((a * b).sum(axis=(1, 2)) / np.maximum(norm, 1e-6), dtype=np.float32)


def _detail(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(gray - uniform_filter(gray, size=(0, 9, 9)), dtype=np.float32)


def _describe(gray: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """Return the perceptual hash of each print and the standard deviation of its detail."""
    hashes = np.zeros(len(gray), dtype=np.uint64)
    detail = np.zeros(len(gray), dtype=np.float32)
    # Neighboring frequencies go to different quarters of the hash: no quarter is alike for all images.
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64).reshape(4, 16).T.reshape(-1)
    for at in range(0, len(gray), 2048):
        part = gray[at : at + 2048].astype(np.float32)
        detail[at : at + 2048] = _detail(part).std(axis=(1, 2))
        half = part.reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4))
        low = dct(dct(half, axis=1)[:, :8], axis=2)[:, :, :8].reshape(-1, 64)
        bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
        bits[:, 0] = False  # mean brightness: the same for nearly all
        hashes[at : at + 2048] = (bits * weights).sum(axis=1, dtype=np.uint64)
    return hashes, detail


def _near_pairs(hashes: npt.NDArray[np.uint64]) -> Iterator[tuple[Ints, Ints]]:
    """Yield blocks of all pairs (i < j) whose hashes differ in at most 7 bits, each pair once.

    Of four quarters of 16 bits at least one then differs in at most one bit, so equal quarters are looked up
    in sorted order, with each of 16 bits flipped or none, instead of comparing all with all.
    """
    flips = np.array([0, *(1 << bit for bit in range(16))], dtype=np.uint64)
    quarters = [(hashes >> np.uint64(16 * q)) & np.uint64(0xFFFF) for q in range(4)]
    for q, quarter in enumerate(quarters):
        order = np.argsort(quarter, kind="stable")
        ranked = quarter[order]
        for flip in flips:
            low = np.searchsorted(ranked, quarter ^ flip, "left")
            high = np.searchsorted(ranked, quarter ^ flip, "right")
            for i, place in _expand(low, high):
                j = order[place]
                keep = (i < j) & (np.bitwise_count(hashes[i] ^ hashes[j]) <= RADIUS)
                i, j = i[keep], j[keep]
                for earlier in quarters[:q]:  # already found through an earlier quarter
                    new = np.bitwise_count(earlier[i] ^ earlier[j]) > 1
                    i, j = i[new], j[new]
                if len(i):
                    yield i, j


def _expand(low: Ints, high: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield (row, place) for every place in ``low[row] : high[row]``, in blocks of bounded size."""
    count = high - low
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK, "right")))
        rows = np.repeat(np.arange(start, stop), count[start:stop])
        offset = np.arange(len(rows)) - np.repeat(
            ends[start:stop] - count[start:stop] - before, count[start:stop]
        )
        yield rows, low[rows] + offset
        start = stop
