"""Nearest-neighbor lists by cosine: exact by blocked products, or by partitions for very many images.

Lists are computed once per embedding, with a margin, and filtered for every fold: dropping a few held-out
images from the lists gives what recomputing them would, at no cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Index = NDArray[np.int32]

EXACT_LIMIT = 20_000
"""Up to this many rows all pairs are compared; above, only those in the nearest partitions."""

_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest rows of each row, nearest first, itself left out.

    Attributes:
        index: int32 (n, k). Where a row has fewer than k neighbors the rest is filled with its own number.
        similarity: float32 (n, k) cosine; 0 in filled places.
    """

    index: Index
    similarity: Array

    @property
    def count(self) -> int:
        """Neighbors listed per row."""
        return int(self.index.shape[1])

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def keep(self, rows: NDArray[np.bool_], count: int) -> Neighbors:
        """Return the lists among the kept rows only, renumbered, with at most ``count`` neighbors each.

        Equal to lists recomputed on the kept rows as long as no row loses more neighbors than the margin
        (``self.count - count``); a row that loses more has fewer neighbors, never wrong ones.

        Args:
            rows: bool (n,), True for rows that stay.
            count: Neighbors wanted per row.
        """
        new_number = np.cumsum(rows, dtype=np.int64).astype(np.int32) - 1
        index, similarity = self.index[rows], self.similarity[rows]
        own = np.flatnonzero(rows).astype(np.int32)[:, None]
        valid = rows[index] & (index != own)
        # A stable sort on "not valid" moves the survivors to the front and leaves their order alone.
        front = np.argsort(~valid, axis=1, kind="stable")[:, :count]
        valid = np.take_along_axis(valid, front, axis=1)
        index = new_number[np.take_along_axis(index, front, axis=1)]
        similarity = np.take_along_axis(similarity, front, axis=1)
        filled = np.arange(len(index), dtype=np.int32)[:, None]
        return Neighbors(np.where(valid, index, filled), np.where(valid, similarity, np.float32(0)))


def find_neighbors(vectors: Array, count: int, *, exact: bool | None = None, seed: int = 0) -> Neighbors:
    """List each row's nearest rows by cosine.

    Args:
        vectors: float32 (n, k), unit length (zero rows are allowed and near to nothing).
        count: Neighbors per row; fewer are listed where there are fewer rows.
        exact: Compare all pairs? Default: up to 20,000 rows.
        seed: Of the partitions, when not exact.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    n = len(vectors)
    count = max(1, min(count, n - 1))
    if n < 2:
        return Neighbors(np.zeros((n, 1), np.int32), np.zeros((n, 1), np.float32))
    if exact is None:
        exact = n <= EXACT_LIMIT
    return _exact(vectors, count) if exact else _partitioned(vectors, count, seed)


def _exact(vectors: Array, count: int) -> Neighbors:
    n = len(vectors)
    index = np.empty((n, count), np.int32)
    similarity = np.empty((n, count), np.float32)
    rows_at_once = max(1, _BLOCK_BYTES // (4 * n))
    for start in range(0, n, rows_at_once):
        stop = min(start + rows_at_once, n)
        products = vectors[start:stop] @ vectors.T
        products[np.arange(stop - start), np.arange(start, stop)] = -np.inf
        index[start:stop], similarity[start:stop] = _largest(products, count)
    return Neighbors(index, similarity)


def _largest(products: Array, count: int) -> tuple[Index, Array]:
    """Return columns and values of the ``count`` largest per row, largest first, ties by column."""
    count = min(count, products.shape[1])
    columns = np.argpartition(products, products.shape[1] - count, axis=1)[:, -count:]
    columns.sort(axis=1)
    values = np.take_along_axis(products, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    nearest = np.take_along_axis(columns, order, axis=1).astype(np.int32)
    return nearest, np.take_along_axis(values, order, axis=1)


def _partitioned(vectors: Array, count: int, seed: int) -> Neighbors:
    """Compare each row with the rows of its nearest partitions only (an inverted file, as FAISS calls it)."""
    n = len(vectors)
    centers, member = _partition(vectors, seed)
    order = np.argsort(member, kind="stable")
    bounds = np.searchsorted(member[order], np.arange(len(centers) + 1))
    nearness = centers @ centers.T
    index = np.repeat(np.arange(n, dtype=np.int32)[:, None], count, axis=1)
    similarity = np.zeros((n, count), np.float32)
    # All rows of a partition search the same nearest partitions, so that each search is one matrix product.
    probes = max(2, min(len(centers), round(len(centers) * 0.08) + 6))
    for part in range(len(centers)):
        rows = order[bounds[part] : bounds[part + 1]]
        near = np.argsort(-nearness[part], kind="stable")[:probes]
        near = np.concatenate([[part], near[near != part]])[:probes]
        others = np.concatenate([order[bounds[p] : bounds[p + 1]] for p in near])
        for start in range(0, len(rows), 1024):
            some = rows[start : start + 1024]
            products = vectors[some] @ vectors[others].T
            products[some[:, None] == others[None, :]] = -np.inf
            columns, values = _largest(products, count)
            found = np.isfinite(values)
            width = columns.shape[1]
            index[some, :width] = np.where(found, others[columns], some[:, None])
            similarity[some, :width] = np.where(found, values, 0)
    return Neighbors(index, similarity)


def _partition(vectors: Array, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Return unit-length centers (p, k) and each row's partition (n,)."""
    from sklearn.cluster import MiniBatchKMeans

    n = len(vectors)
    parts = max(2, round(np.sqrt(n)))
    sample = vectors[np.random.default_rng(seed).permutation(n)[: 40 * parts]]
    found = MiniBatchKMeans(parts, batch_size=4096, n_init=1, max_iter=10, random_state=seed).fit(sample)
    centers = np.asarray(found.cluster_centers_, dtype=np.float32)
    centers /= np.maximum(np.linalg.norm(centers, axis=1, keepdims=True), 1e-12)
    member = np.concatenate([(vectors[s : s + 8192] @ centers.T).argmax(axis=1) for s in range(0, n, 8192)])
    return centers, member.astype(np.int64)
