"""A cache of vectors on disk that a kill cannot tear and two processes can share.

A cache is a directory of shards. A shard is written whole (temporary file, fsync, rename) and never changed,
so nothing needs a lock: two processes write shards of different names, and the worst that can happen is that
the same vector is kept twice. Lengths and checksums are tested on reading; a damaged shard is deleted and its
vectors are computed again. One that cannot be opened (too many open files, no right to) may be sound: it is left
alone, and passed over by this process.

Layout of a shard, little endian: magic (8 bytes), count and dim (uint32), CRC-32 of the keys and of the
vectors (uint32), zeros up to byte 64, count keys of 16 bytes, count x dim float32.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fallow.errors import RunError
from fallow.record.rundir import atomic_path

_MAGIC = b"FALVEC01"
_HEADER = struct.Struct("<8sIIII")
_HEADER_BYTES = 64
_KEY_BYTES = 16
_STALE_SECONDS = 3600.0


@dataclass
class _Shard:
    path: Path
    count: int
    offset: int
    crc: int
    checked: bool = False


class VectorCache:
    """Vectors of one kind (backbone, weights, size, view), float32 of length ``dim``, by the image's pixel
    hash.

    Args:
        directory: Where the shards are; made when the first one is written.
        dim: Length of the vectors.
    """

    def __init__(self, directory: Path, dim: int) -> None:
        self.directory = directory
        self.dim = dim
        self._shards: dict[str, _Shard] = {}
        self._where: dict[bytes, tuple[str, int]] = {}
        self._ignored: set[str] = set()
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed writer left behind long ago."""
        for path in self.directory.glob(".*.part"):
            try:
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
            except OSError:
                continue  # another process was faster

    def refresh(self) -> None:
        """Learn of shards that this or another process has written since."""
        if not self.directory.is_dir():
            return
        for path in sorted(self.directory.glob("*.vec")):
            if path.name not in self._shards and path.name not in self._ignored:
                self._open(path)

    def _open(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
                magic, count, dim, keys_crc, crc = _HEADER.unpack_from(header)
                keys = file.read(count * _KEY_BYTES)
            size = path.stat().st_size
        except OSError:
            self._ignore(path)
            return
        except struct.error:  # shorter than a header
            self._drop(path)
            return
        offset = _HEADER_BYTES + count * _KEY_BYTES
        sound = magic == _MAGIC and dim == self.dim and size == offset + count * dim * 4
        if not sound or zlib.crc32(keys) != keys_crc:
            self._drop(path)
            return
        self._shards[path.name] = _Shard(path, count, offset, crc)
        for row in range(count):
            key = keys[row * _KEY_BYTES : (row + 1) * _KEY_BYTES]
            # The first shard by name wins everywhere, so that two copies of a vector never take turns.
            self._where.setdefault(key, (path.name, row))

    def _ignore(self, path: Path) -> None:
        """Do without a shard for as long as this process lives."""
        self._ignored.add(path.name)
        self._shards.pop(path.name, None)
        self._where = {key: where for key, where in self._where.items() if where[0] != path.name}

    def _drop(self, path: Path) -> None:
        """Do without a damaged shard, and delete it."""
        self._ignore(path)
        with contextlib.suppress(OSError):  # a read-only cache: the shard is ignored all the same
            path.unlink(missing_ok=True)

    def read(self, hashes: Sequence[str], out: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Copy the vectors that are known into ``out`` (n, dim) and return which (n,) they are."""
        self.refresh()
        found = np.zeros(len(hashes), dtype=bool)
        by_shard: dict[str, list[tuple[int, int]]] = {}
        for position, text in enumerate(hashes):
            where = self._where.get(_key(text))
            if where is not None:
                by_shard.setdefault(where[0], []).append((position, where[1]))
        for name, pairs in by_shard.items():
            vectors = self._vectors(self._shards[name])
            if vectors is None:
                continue
            positions, rows = np.array(pairs).T
            out[positions] = vectors[rows]
            found[positions] = True
        return found

    def count(self, hashes: Sequence[str]) -> int:
        """Return how many of these vectors are known, without reading them."""
        self.refresh()
        return sum(_key(text) in self._where for text in hashes)

    def _vectors(self, shard: _Shard) -> NDArray[np.float32] | None:
        shape = (shard.count, self.dim)
        try:
            vectors = np.memmap(shard.path, dtype="<f4", mode="r", offset=shard.offset, shape=shape)
        except OSError:
            self._ignore(shard.path)
            return None
        except ValueError:  # shorter than it was
            self._drop(shard.path)
            return None
        if not shard.checked:
            if _crc(vectors) != shard.crc:
                del vectors
                self._drop(shard.path)
                return None
            shard.checked = True
        return vectors

    def append(self, hashes: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Write ``vectors`` (n, dim) as one shard.

        Raises:
            RunError: The disk is full or the cache cannot be written.
        """
        if not len(hashes):
            return
        keys = b"".join(_key(text) for text in hashes)
        payload = np.ascontiguousarray(vectors, dtype="<f4")
        header = _HEADER.pack(_MAGIC, len(hashes), self.dim, zlib.crc32(keys), _crc(payload))
        path = self.directory / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.vec"
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                file.write(header.ljust(_HEADER_BYTES, b"\0"))
                file.write(keys)
                # Not tofile: it raises an error without a number where the disk is full.
                file.write(payload.reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise RunError(
                f"the cache folder '{self.directory}' cannot be written ({error.strerror or error}): "
                "point FALLOW_CACHE to a folder that can"
            ) from error


def _crc(array: NDArray[np.float32]) -> int:
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest()
