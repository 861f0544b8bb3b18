"""The nearest of many vectors by cosine: exactly, block by block, or through an index that is nearly right and fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fallow.errors import RunError
from fallow.models import unit_length
from fallow.record.rundir import atomic_path

Array = NDArray[np.float32]
INDEX = "index.usearch"
_ROWS, _QUERIES = 16_384, 512


def nearest(
    queries: NDArray[np.floating],
    vectors: NDArray[np.floating],
    k: int,
    *,
    own: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], Array]:
    """Return the ``k`` nearest rows of each query, nearest first, and their cosine distances.

    The vectors are read block by block, so that a file of any size will do (`numpy.load` with ``mmap_mode="r"``).
    Equal distances come in the order of the rows.

    Args:
        queries: (q, dim).
        vectors: (n, dim).
        k: Fewer where there are not so many.
        own: Row of each query that does not count as a neighbor, (q,): itself.

    Returns:
        Rows (q, k) and distances 1 - cosine in 0..2, (q, k) float32.
    """
    k = min(k, len(vectors) - (own is not None))
    rows = np.zeros((len(queries), k), np.int64)
    far = np.zeros((len(queries), k), np.float32)
    for first in range(0, len(queries) if k > 0 else 0, _QUERIES):
        part = slice(first, first + _QUERIES)
        asked = unit_length(queries[part])
        best = np.full((len(asked), k), np.inf, np.float32)
        where = np.full((len(asked), k), -1, np.int64)
        for start in range(0, len(vectors), _ROWS):
            distance = 1 - asked @ unit_length(vectors[start : start + _ROWS]).T
            if own is not None:
                at = own[part] - start
                inside = np.flatnonzero((at >= 0) & (at < distance.shape[1]))
                distance[inside, at[inside]] = np.inf
            there = np.broadcast_to(np.arange(start, start + distance.shape[1]), distance.shape)
            both, places = np.concatenate([best, distance], 1), np.concatenate([where, there], 1)
            order = np.argsort(both, axis=1, kind="stable")[:, :k]
            best, where = np.take_along_axis(both, order, 1), np.take_along_axis(places, order, 1)
        rows[part], far[part] = where, np.clip(best, 0, 2)
    return rows, far


def write_index(path: Path, vectors: NDArray[np.floating]) -> None:
    """Write an approximate index (HNSW, by usearch) over vectors (n, dim).

    Raises:
        RunError: usearch is not installed.
    """
    index = _usearch().Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
    for start in range(0, len(vectors), _ROWS):
        part = unit_length(vectors[start : start + _ROWS])
        # One thread: with several the graph is another each time.
        index.add(np.arange(start, start + len(part)), part, threads=1)
    with atomic_path(path) as temporary:
        index.save(str(temporary))


def through_index(path: Path, queries: NDArray[np.floating], k: int) -> tuple[NDArray[np.int64], Array]:
    """Return what `nearest` does, nearly, from an index that `write_index` wrote.

    Raises:
        RunError: usearch is not installed, or the file is none of its.
    """
    try:
        index = _usearch().Index.restore(str(path), view=True)
    except RunError:
        raise
    except Exception as error:  # a foreign library's own kinds
        raise RunError(f"'{path}' cannot be read as an index: embed the images again with --index") from error
    if index is None:
        raise RunError(f"'{path}' cannot be read as an index: embed the images again with --index")
    found = [index.search(query, min(k, len(index))) for query in unit_length(queries)]
    rows = np.stack([np.asarray(one.keys, np.int64) for one in found])
    return rows, np.clip(np.stack([np.asarray(one.distances, np.float32) for one in found]), 0, 2)


def _usearch() -> Any:
    try:
        from usearch import index
    except ImportError as error:
        raise RunError(
            "an index needs usearch: pip install 'fallow[index]', or leave --index out: without one the search is exact, and "
            "takes about a second for 100,000 images"
        ) from error
    return index
