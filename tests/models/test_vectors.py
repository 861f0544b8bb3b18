"""The cache: whole shards or none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from fallow.errors import RunError
from fallow.models.vectors import VectorCache

DIM = 5


def _filled(folder: Path, keys: list[str]) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(len(keys), DIM)).astype(np.float32)
    VectorCache(folder, DIM).append(keys, vectors)
    return vectors


def _read(folder: Path, keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    out = np.zeros((len(keys), DIM), np.float32)
    return VectorCache(folder, DIM).read(keys, out), out


def test_what_was_written_is_read_in_any_order(tmp_path: Path) -> None:
    vectors = _filled(tmp_path, ["a", "b", "c"])
    found, out = _read(tmp_path, ["c", "x", "a"])
    assert found.tolist() == [True, False, True]
    np.testing.assert_array_equal(out[[0, 2]], vectors[[2, 0]])


def test_two_open_caches_see_what_the_other_wrote(tmp_path: Path) -> None:
    one, two = VectorCache(tmp_path, DIM), VectorCache(tmp_path, DIM)
    one.append(["a"], np.full((1, DIM), 1, np.float32))
    two.append(["b"], np.full((1, DIM), 2, np.float32))
    for cache in (one, two):
        out = np.zeros((2, DIM), np.float32)
        assert cache.read(["a", "b"], out).all()
        assert out[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("damage", ["cut", "head", "keys", "vectors", "empty", "longer"])
def test_a_damaged_shard_is_dropped_and_the_others_stay(tmp_path: Path, damage: str) -> None:
    _filled(tmp_path, ["a", "b"])
    shard = next(tmp_path.glob("*.vec"))
    VectorCache(tmp_path, DIM).append(["c"], np.ones((1, DIM), np.float32))
    content = bytearray(shard.read_bytes())
    if damage == "cut":
        content = content[:-7]
    elif damage == "longer":
        content += b"more"
    elif damage == "empty":
        content = bytearray()
    else:
        content[{"head": 3, "keys": 70, "vectors": len(content) - 3}[damage]] ^= 1
    shard.write_bytes(content)
    found, out = _read(tmp_path, ["a", "b", "c"])
    assert found.tolist() == [False, False, True]
    assert out[2].tolist() == [1.0] * DIM
    assert not shard.exists()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("when", ["first seen", "read"])
def test_a_shard_that_cannot_be_opened_is_passed_over_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, when: str
) -> None:
    vectors = _filled(tmp_path, ["a", "b"])
    shard = next(tmp_path.glob("*.vec"))

    def refused(*given: object, **named: object) -> object:
        raise OSError(number, os.strerror(number))

    cache, out = VectorCache(tmp_path, DIM), np.zeros((2, DIM), np.float32)
    with monkeypatch.context() as broken:
        broken.setattr(*((Path, "open") if when == "first seen" else (np, "memmap")), refused)
        assert not cache.read(["a", "b"], out).any()
    assert (
        cache.count(["a", "b"]) == 0
    )  # for this process it is not there: no vector is read from it and then not
    assert shard.exists()
    found, again = _read(tmp_path, ["a", "b"])
    assert found.all()
    np.testing.assert_array_equal(again, vectors)
    cache.append(["a"], vectors[:1])
    assert cache.read(["a"], out[:1]).all()


def test_an_unfinished_shard_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".1.vec.abc.part").write_bytes(b"half a shard")
    assert not _read(tmp_path, ["a"])[0].any()


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(RunError, match="FALLOW_CACHE"):
        VectorCache(blocked / "vectors", DIM).append(["a"], np.zeros((1, DIM), np.float32))
