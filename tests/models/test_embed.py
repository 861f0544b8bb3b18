from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fallow.errors import ConfigError, DataError, WeightsError
from fallow.models import Embedder, Preprocess, apply_view, from_module, load_backbone
from tests.networks import Reader, digits, photos, tiny_backbone


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for traced graphs, since tracing takes seconds."""
    return tmp_path_factory.mktemp("graphs")


def _embedder(cache: Path, graphs: Path, **settings: int) -> Embedder:
    if not (cache / "graphs").exists():
        (cache / "graphs").symlink_to(graphs)
    return Embedder(tiny_backbone(), 32, cache=cache, device="cpu", **settings)


def _embed(embedder: Embedder, reader: Reader, views: str = "none", rows: slice = slice(None)) -> np.ndarray:
    return embedder.embed(reader, reader.ids[rows], reader.hashes[rows], views)


def test_onnx_runtime_gives_what_torch_gives(tmp_path: Path, graphs: Path) -> None:
    reader = Reader(photos(11)[0])
    embedder = _embedder(tmp_path, graphs)
    vectors = _embed(embedder, reader, "turns")
    assert (vectors.shape, vectors.dtype) == ((11, 8, 24), np.float32)
    assert embedder.engine.name.startswith("onnx")
    backbone = embedder.backbone
    preprocess = Preprocess(32, backbone.mean, backbone.std)
    x = torch.from_numpy(np.stack([preprocess(image) for image in reader.images]))
    with torch.inference_mode():
        expected = np.stack([backbone.module(apply_view(x, view)).numpy() for view in range(8)], 1)
    np.testing.assert_allclose(vectors, expected, atol=2e-5)


def test_a_vector_depends_on_its_image_alone(tmp_path: Path, graphs: Path) -> None:
    reader = Reader(photos(13)[0])
    together = _embed(_embedder(tmp_path, graphs), reader, "flip")
    for number, rows in enumerate((slice(0, 1), slice(3, 13), slice(5, 9))):
        cache = tmp_path / str(number)
        cache.mkdir()
        alone = _embed(_embedder(cache, graphs, threads=3), reader, "flip", rows)
        np.testing.assert_array_equal(alone, together[rows])


def test_the_cache_is_used_and_views_are_shared(tmp_path: Path, graphs: Path) -> None:
    first = Reader(photos(9)[0])
    flip = _embed(_embedder(tmp_path, graphs), first, "flip")
    again = Reader(first.images)
    np.testing.assert_array_equal(_embed(_embedder(tmp_path, graphs), again, "flip"), flip)
    np.testing.assert_array_equal(_embed(_embedder(tmp_path, graphs), again, "none"), flip[:, :1])
    assert again.read_ids == []
    embedder, calls = _embedder(tmp_path, graphs), []
    run = embedder.engine.run
    embedder.engine.run = lambda pixels: calls.append(len(pixels)) or run(pixels)  # type: ignore[method-assign]
    turns = _embed(embedder, again, "turns")
    np.testing.assert_array_equal(turns[:, [0, 4]], flip)
    assert sum(calls) == 56  # 9 images x 6 new views, in whole batches of 8


def test_equal_hashes_are_embedded_once(tmp_path: Path, graphs: Path) -> None:
    images = photos(3)[0]
    reader = Reader([images[0], images[1], images[0], images[2]])
    hashes = ["x", "y", "x", "z"]
    vectors = _embedder(tmp_path, graphs).embed(reader, reader.ids, hashes)
    assert sorted(reader.read_ids) == ["0", "1", "3"]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_pixels_are_the_image_itself(tmp_path: Path) -> None:
    images, _ = digits(20)
    reader = Reader(images)
    embedder = Embedder(load_backbone("pixels"), 8, cache=tmp_path)
    vectors = _embed(embedder, reader)
    expected = np.stack(images).transpose(0, 3, 1, 2).reshape(20, 1, -1) / 255
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    wide = Embedder(load_backbone("pixels"), 160, cache=tmp_path)
    assert (wide.size, wide.dim, wide.space("none").size) == (16, 768, 16)


def test_progress_counts_images(tmp_path: Path) -> None:
    reader = Reader(digits(600)[0])
    seen: list[tuple[str, int, int]] = []
    embedder = Embedder(load_backbone("pixels"), 8, cache=tmp_path)
    embedder.embed(reader, reader.ids, reader.hashes, progress=lambda *at: seen.append(at))
    assert seen[-1] == ("embed", 600, 600)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert embedder.embed(reader, [], []).shape == (0, 1, 192)


def test_an_error_while_reading_keeps_what_was_done(tmp_path: Path) -> None:
    reader = Reader(digits(900)[0])

    def breaking(name: str) -> np.ndarray:
        if name == "800":
            raise OSError("the disk went away")
        return reader(name)

    embedder = Embedder(load_backbone("pixels"), 8, cache=tmp_path, threads=1)
    with pytest.raises(OSError, match="went away"):
        embedder.embed(breaking, reader.ids, reader.hashes)
    reader.read_ids.clear()
    _embed(Embedder(load_backbone("pixels"), 8, cache=tmp_path), reader)
    assert 0 < len(reader.read_ids) < 900


def test_mistakes_are_named(tmp_path: Path) -> None:
    embedder = Embedder(load_backbone("pixels"), 8, cache=tmp_path)
    with pytest.raises(DataError, match="one for each"):
        embedder.embed(lambda name: np.zeros((8, 8, 3), np.uint8), ["a"], [])
    with pytest.raises(DataError, match="the image 'a' cannot be used"):
        embedder.embed(lambda name: np.zeros((8, 8), np.uint8), ["a"], ["h"])
    with pytest.raises(ConfigError, match="tpu"):
        Embedder(load_backbone("pixels"), 8, cache=tmp_path, device="tpu")


class Branching(nn.Module):
    """A forward that looks at its data: ONNX cannot express it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3))
        return pooled * 2 if float(pooled.sum()) > 0 else pooled


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.mean((2, 3)) - 10).log()


def test_a_network_that_onnx_cannot_express_is_run_by_torch(tmp_path: Path) -> None:
    backbone = from_module(Branching(), size=8)
    reader = Reader(digits(5)[0])
    embedder = Embedder(backbone, 8, cache=tmp_path, device="cpu")
    assert _embed(embedder, reader).shape == (5, 1, 3)
    assert embedder.engine.name == "torch-cpu"


def test_values_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    reader = Reader(digits(2)[0])
    with pytest.raises(WeightsError, match="not finite for the image '0'"):
        _embed(Embedder(from_module(Broken(), size=8), 8, cache=tmp_path, device="cpu"), reader)
    assert not list(tmp_path.rglob("*.vec"))


def test_rate_is_quick_and_scales_with_area(tmp_path: Path, graphs: Path) -> None:
    embedder = _embedder(tmp_path, graphs)
    embedder.engine  # noqa: B018 - making it is not what is timed
    start = time.monotonic()
    rate = embedder.rate(seconds=0.3)
    assert time.monotonic() - start < 1.5
    assert rate > 0
    assert embedder.rate(64, seconds=0.3) < rate


SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np
from fallow.models import Embedder, embed, load_backbone
embed._FLUSH_SECONDS = 0.05
hang_at = int(sys.argv[2])
def read(name):
    time.sleep(1000 if int(name) == hang_at else 0.0005)
    return np.full((12, 12, 3), int(name) % 251, np.uint8)
ids = [str(n) for n in range(900)]
embedder = Embedder(load_backbone("pixels"), 8, cache=Path(sys.argv[1]), threads=2)
np.save(sys.argv[3], embedder.embed(read, ids, ids, "flip"))
"""


def _start(cache: Path, hang_at: int, out: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(cache), str(hang_at), str(out)], env=environment
    )


def test_killed_in_the_middle_and_two_at_once(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    killed = _start(shared, 890, tmp_path / "never.npy")  # hangs in its last batch
    deadline = time.monotonic() + 60
    while len(list(shared.rglob("*.vec"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "never.npy").exists()
    started = [_start(shared, -1, tmp_path / f"{name}.npy") for name in "ab"]
    reader = Reader([np.full((12, 12, 3), number % 251, np.uint8) for number in range(900)])
    embedder = Embedder(load_backbone("pixels"), 8, cache=tmp_path / "clean")
    uninterrupted = embedder.embed(reader, reader.ids, reader.ids, "flip")
    assert [process.wait(timeout=60) for process in started] == [0, 0]
    for name in "ab":
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), uninterrupted)
