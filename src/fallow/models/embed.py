"""Images to vectors, once: computed by an engine the first time, read from the cache ever after."""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fallow.data import cores
from fallow.errors import DataError, WeightsError
from fallow.models.backbones import Backbone
from fallow.models.engines import Engine, Pixels, make_engine, pick_device
from fallow.models.preprocess import Preprocess
from fallow.models.vectors import VectorCache
from fallow.models.views import apply_view, view_indices
from fallow.types import Progress, silent

FORMAT = 1
"""Raised whenever this code would give an image other vectors: old cache entries are then ignored."""

_FLUSH_SECONDS = 3.0
_FLUSH_ROWS = 4096

Task = TypeVar("Task")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Space:
    """What a vector means: vectors of the same space can be compared.

    Attributes:
        backbone_name: Name of the backbone.
        weights_id: Short hash of its tensors.
        size: Side in pixels that it saw.
        views: Set of views (``none``, ``flip``, ``turns``).
    """

    backbone_name: str
    weights_id: str
    size: int
    views: str

    @property
    def key(self) -> str:
        """The space in one word, the same in every run."""
        return f"{self.backbone_name}@{self.weights_id}/{self.size}/{self.views}"

    @property
    def network(self) -> tuple[str, str, int]:
        """What two spaces share when they differ by their views only."""
        return self.backbone_name, self.weights_id, self.size


class Embedder:
    """Turns images into vectors of one backbone and size.

    The vectors of a network that a run trained are not written to the cache: no other run will ask for them. The vector of an image depends on that image alone: batches have one fixed shape (the last is padded), so
    what else was embedded, and what was cached, changes no bit.

    Args:
        backbone: The network.
        size: Side in pixels that it is to see; ``pixels`` stops at 16.
        cache: Directory for vectors and graphs.
        device: ``auto`` (CUDA, else Apple's MPS, else CPU), ``cpu``, ``cuda`` or ``mps``.
        threads: Threads that decode images and, on a CPU, run the network. None: one per core that this
            process may use.
        eager: Start at once, for a few images: no graph is traced.

    Attributes:
        backbone: The network.
        size: Side in pixels that it really sees.
        preprocess: What is done to an image first.
        device: Where the network runs: ``cpu``, ``cuda`` or ``mps``.
        threads: Number of threads.
    """

    def __init__(
        self,
        backbone: Backbone,
        size: int,
        *,
        cache: Path,
        device: str = "auto",
        threads: int | None = None,
        eager: bool = False,
    ) -> None:
        self.backbone = backbone
        self.size = backbone.fit_size(size)
        self.threads = max(1, threads or cores())
        self._cache, self._eager = cache, eager
        self.device = pick_device(device)
        self.preprocess = Preprocess(self.size, backbone.mean, backbone.std)
        self._engine: Engine | None = None
        self._stores: dict[int, VectorCache] = {}

    @property
    def _keeps(self) -> bool:
        """Whether vectors go to the cache, where other runs find them."""
        return not (self._eager or self.backbone.trained)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.backbone.dim_at(self.size)

    def space(self, views: str) -> Space:
        """Return the space of the vectors that `embed` gives for ``views``."""
        view_indices(views)
        return Space(self.backbone.name, self.backbone.weights_id, self.size, views)

    @property
    def engine(self) -> Engine:
        """What runs the network; made when first needed, which takes seconds the first time on a machine."""
        if self._engine is None:
            graphs = self._cache / "graphs"
            self._engine = make_engine(self.backbone, self.size, graphs, self.device, eager=self._eager)
        return self._engine

    def embed(
        self,
        read: Callable[[str], Pixels],
        ids: Sequence[str],
        pixel_hashes: Sequence[str],
        views: str = "none",
        progress: Progress = silent,
    ) -> NDArray[np.float32]:
        """Return the vectors (n, n_views, dim) float32 of the images ``ids``, in that order.

        Args:
            read: Returns the uint8 (H, W, 3) pixels of an id; called from several threads, and only for
                images that are not in the cache.
            ids: The images.
            pixel_hashes: A hash of each image's decoded pixels: its key in the cache. Equal hashes are
                embedded once.
            views: ``none``, ``flip`` or ``turns``.
            progress: Told how many images are done.

        Raises:
            DataError: ``ids`` and ``pixel_hashes`` differ in length, or an image is not uint8 (H, W, 3).
            ConfigError: Unknown views, or a size that the backbone cannot take.
            WeightsError: The network gives values that are not finite.
            RunError: The cache cannot be written.
        """
        if len(ids) != len(pixel_hashes):
            raise DataError(
                f"there are {len(ids)} images but {len(pixel_hashes)} pixel hashes: give one for each"
            )
        indices = view_indices(views)
        first: dict[str, int] = {}
        for row, text in enumerate(pixel_hashes):
            first.setdefault(text, row)
        unique = list(first)
        vectors = np.empty((len(unique), len(indices), self.dim), dtype=np.float32)
        known = np.zeros((len(unique), len(indices)), dtype=bool)
        for column, view in enumerate(indices if self._keeps else ()):
            known[:, column] = self._store(view).read(unique, vectors[:, column])
        todo = np.flatnonzero(~known.all(1))
        if len(todo):
            missing = [(int(row), np.flatnonzero(~known[row])) for row in todo]
            self._compute(
                missing, unique, [ids[first[text]] for text in unique], read, indices, vectors, progress
            )
        progress("embed", len(unique), len(unique))
        if len(unique) == len(ids):
            return vectors
        row_of = {text: row for row, text in enumerate(unique)}
        return vectors[[row_of[text] for text in pixel_hashes]]

    def embed_pixels(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the vectors (n, dim) of images that are no files, such as augmented ones; they are not cached.

        Args:
            pixels: uint8 (n, S, S, 3), of the side that the network sees.
        """
        engine = self.engine

        def run(start: int) -> NDArray[np.float32]:
            part = pixels[start : start + engine.batch]
            padded = np.concatenate([part, np.zeros((engine.batch - len(part), *part.shape[1:]), np.uint8)])
            return engine.run(padded)[: len(part)]

        with ThreadPoolExecutor(self.threads if engine.parallel else 1) as pool:
            return np.concatenate(list(pool.map(run, range(0, len(pixels), engine.batch))))

    def missing(self, pixel_hashes: Sequence[str], views: str) -> dict[int, int]:
        """Return how many of these images have no vector in the cache yet, by view."""
        unique = list(dict.fromkeys(pixel_hashes))
        if not self._keeps:
            return dict.fromkeys(view_indices(views), len(unique))
        return {view: len(unique) - self._store(view).count(unique) for view in view_indices(views)}

    def _compute(
        self,
        missing: list[tuple[int, NDArray[np.intp]]],
        hashes: list[str],
        names: list[str],
        read: Callable[[str], Pixels],
        indices: tuple[int, ...],
        vectors: NDArray[np.float32],
        progress: Progress,
    ) -> None:
        """Fill ``vectors`` where they are missing, and the cache as it goes."""
        engine = self.engine
        pending: list[tuple[int, NDArray[np.intp]]] = []
        done, rows, flushed = len(hashes) - len(missing), 0, time.monotonic()

        def work(chunk: list[tuple[int, NDArray[np.intp]]]) -> NDArray[np.float32]:
            wanted = [[indices[column] for column in columns] for _, columns in chunk]
            return self._features(engine, [names[row] for row, _ in chunk], wanted, read)

        chunks = [missing[start : start + engine.batch] for start in range(0, len(missing), engine.batch)]
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="fallow-embed")
        try:
            for chunk, features in _in_order(pool, work, chunks, ahead=2 * self.threads):
                start = 0
                for row, columns in chunk:
                    vectors[row, columns] = features[start : start + len(columns)]
                    start += len(columns)
                pending += chunk
                done, rows = done + len(chunk), rows + start
                progress("embed", done, len(hashes))
                if rows >= _FLUSH_ROWS or time.monotonic() - flushed > _FLUSH_SECONDS:
                    self._flush(pending, hashes, indices, vectors)
                    pending, rows, flushed = [], 0, time.monotonic()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._flush(pending, hashes, indices, vectors)

    def _features(
        self, engine: Engine, names: list[str], wanted: list[list[int]], read: Callable[[str], Pixels]
    ) -> NDArray[np.float32]:
        """Decode and embed a few images: features (sum of views, dim), image by image, in one thread."""
        pictures: list[Pixels] = []
        for name, views in zip(names, wanted, strict=True):
            try:
                planes = np.moveaxis(self.preprocess.resize(read(name)), -1, 0)
            except DataError as error:
                raise DataError(f"the image '{name}' cannot be used: {error}") from error
            pictures += [np.moveaxis(apply_view(planes, view), 0, -1) for view in views]
        parts = []
        for start in range(0, len(pictures), engine.batch):
            batch = np.stack(pictures[start : start + engine.batch])
            padded = np.zeros((engine.batch, *batch.shape[1:]), dtype=np.uint8)
            padded[: len(batch)] = batch
            parts.append(engine.run(padded)[: len(batch)])
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise WeightsError(
                f"the backbone '{self.backbone.name}' gives values that are not finite for the image "
                f"'{names[0]}' or one next to it: its weights are damaged or its mean and std are wrong"
            )
        return features

    def _flush(
        self,
        pending: list[tuple[int, NDArray[np.intp]]],
        hashes: list[str],
        indices: tuple[int, ...],
        vectors: NDArray[np.float32],
    ) -> None:
        for column, view in enumerate(indices if self._keeps else ()):
            rows = [row for row, columns in pending if column in columns]
            self._store(view).append([hashes[row] for row in rows], vectors[rows, column])

    def _store(self, view: int) -> VectorCache:
        if view not in self._stores:
            engine = self.engine.name
            parts = (
                self.backbone.name,
                self.backbone.weights_id,
                self.size,
                engine,
                self.preprocess,
                FORMAT,
            )
            digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()
            slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.backbone.name)[:60]
            folder = self._cache / "vectors" / f"{slug}-{self.size}-{digest}" / f"view{view}"
            self._stores[view] = VectorCache(folder, self.dim)
        return self._stores[view]

    def rate(self, size: int | None = None, *, seconds: float = 1.0) -> float:
        """Return how many images a second the network takes on this machine now, measured for about
        ``seconds``.

        Reading images is not included: see `reading_rate`. Making the engine (seconds, the first time) is not counted.

        Args:
            size: Side to answer for. Another than the embedder's own is scaled by its area.
            seconds: Time to spend.
        """
        engine = self.engine
        batch = np.zeros((engine.batch, self.size, self.size, 3), dtype=np.uint8)
        engine.run(batch)
        start = time.monotonic()
        workers = self.threads if engine.parallel else 1

        def spin(_: int) -> int:
            count = 0
            while count == 0 or time.monotonic() - start < seconds:
                engine.run(batch)
                count += 1
            return count

        with ThreadPoolExecutor(workers) as pool:
            batches = sum(pool.map(spin, range(workers)))
        measured = batches * engine.batch / (time.monotonic() - start)
        return measured * (self.size / self.backbone.fit_size(size or self.size)) ** 2

    def reading_rate(self, read: Callable[[str], Pixels], ids: Sequence[str]) -> float:
        """Return how many images a second are read and resized on this machine now, by all threads together.

        Args:
            read: Returns the uint8 (H, W, 3) pixels of an id.
            ids: A few images to measure on, as many as there are threads or more.
        """
        start = time.monotonic()
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda name: self.preprocess.resize(read(name)).shape, ids))
        return len(ids) / max(time.monotonic() - start, 1e-9)

    @property
    def reading_overlaps(self) -> bool:
        """True where the network runs beside the threads that read, as on an accelerator; on a CPU they share the cores."""
        return self.device != "cpu"


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Task], Out], tasks: Sequence[Task], ahead: int
) -> Iterator[tuple[Task, Out]]:
    """Yield (task, result) in order with at most ``ahead`` tasks begun, so that memory stays bounded."""
    running: deque[tuple[Task, Future[Out]]] = deque()
    for task in tasks:
        running.append((task, pool.submit(work, task)))
        if len(running) >= ahead:
            first, future = running.popleft()
            yield first, future.result()
    for first, future in running:
        yield first, future.result()
