"""A large pool is answered part by part: what is on the disk is not asked again, by this process or by another."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fallow.record import RunDir, read_json, write_json
from fallow.record.rundir import atomic_path, write_bytes
from fallow.report.words import duration, plural
from fallow.study.labeling.company import POLL, Company
from fallow.study.outside import OutsideModel, Raw
from fallow.study.plan import check_same_data
from fallow.study.rung import ImageSet
from fallow.types import Progress, silent

_MOST, _LEAST, _PARTS = 1024, 16, 64
LARGE = 10_000
"""Of a pool with more images it is told how long it will take."""


def part_size(images: int) -> int:
    """Return how many images make a part: some 64 parts, of 16 images at least and 1,024 at most.

    It depends on the number of images alone, so that a run may go on with more or fewer processes. Whole batches of 16, so that no
    image's answer depends on where a part ends.
    """
    return min(_MOST, max(_LEAST, _LEAST * -(-images // (_LEAST * _PARTS))))


@dataclass(frozen=True, eq=False)
class Kept:
    """The answers of one model about some images, part by part on the disk.

    Iterating yields ``(rows, answers)`` of each part in order, float32 (rows, outputs); all must be there.

    Attributes:
        model: The model.
        images: What it is asked about.
        folder: Where its answers are kept.
        what: Name for the progress line.
    """

    model: OutsideModel
    images: ImageSet
    folder: Path
    what: str

    @property
    def parts(self) -> range:
        """The first image of each part."""
        return range(0, len(self.images), part_size(len(self.images)))

    def load(self, start: int) -> Raw | None:
        """Return the answers of a part, None where they are not there."""
        try:
            rows: Raw = np.load(self._file(start), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return rows if len(rows) == len(self._part(start)) else None

    def answer(self, start: int, told: Callable[[], None]) -> int:
        """Ask the model about a part, write what it says and return the number of images.

        Args:
            start: The part.
            told: Called after each image.
        """
        said = []
        for row in self.model.answers(self._part(start)):
            said.append(row)
            told()
        content = io.BytesIO()
        np.save(content, np.stack(said), allow_pickle=False)
        write_bytes(self._file(start), content.getvalue())
        return len(said)

    def __iter__(self) -> Iterator[tuple[slice, Raw]]:
        for start in self.parts:
            rows = self.load(start)
            assert rows is not None
            yield slice(start, start + len(rows)), rows

    def _part(self, start: int) -> ImageSet:
        return self.images.part(slice(start, start + self.parts.step))

    def _file(self, start: int) -> Path:
        return self.folder / f"{start:09d}.npy"


def to_ask(models: Sequence[OutsideModel], labeled: ImageSet, pool: ImageSet, run: RunDir) -> list[Kept]:
    """Return what is asked of models: of each first about the labeled images, then about the pool."""
    return [
        Kept(model, images, run.path / "answers" / f"{number}-{what}", f"{model.name}: {what}")
        for number, model in enumerate(models)
        for images, what in ((labeled, "labeled"), (pool, "pool"))
    ]


def make_plan(run: RunDir, fingerprint: str, classes: tuple[str, ...]) -> None:
    """Write what other processes must know of the data.

    Raises:
        RunError: Answers are there already, and were given about other images.
    """
    if run.plan.is_file():
        check_same_data(run, read_json(run.plan)["data"], fingerprint)
    write_json(run.plan, {"data": fingerprint, "classes": list(classes)})


def planned_classes(run: RunDir) -> tuple[str, ...]:
    """Return the classes of the labels given, as process 0 found them."""
    return tuple(read_json(run.plan)["classes"])


def answer_all(
    kept: Sequence[Kept],
    company: Company,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda sentence: None,
) -> int:
    """Answer this process's share of all parts and return for how many images; process 0 waits until all parts are there.

    The parts are dealt in turn. A part whose process has ended, or has long been silent, is answered by process 0.

    Args:
        kept: What is asked of each model.
        company: The processes that answer.
        progress: Who watches.
        tell: Takes what a person should know.

    Raises:
        RunError: This is not process 0, and process 0 has ended.
    """
    company.enter("answering")
    jobs = [_Job(one, start, number % company.count) for number, (one, start) in enumerate(_all_parts(kept))]
    missing = [job for job in jobs if not job.there]
    answered = 0
    for job in missing:
        if job.rank != company.rank or job.there:
            continue
        company.check_leader()
        begun = time.monotonic()
        count = job.answer(company, progress)
        if not answered and company.rank == 0:
            _tell_how_long(
                [one for one in missing if one is not job], count / (time.monotonic() - begun), company, tell
            )
        answered += count
    return answered + (_wait_for_others(jobs, company, progress, tell) if company.rank == 0 else 0)


def _all_parts(kept: Sequence[Kept]) -> Iterator[tuple[Kept, int]]:
    return ((one, start) for one in kept for start in one.parts)


@dataclass(frozen=True, eq=False)
class _Job:
    """A part, and the process that is to answer it."""

    kept: Kept
    start: int
    rank: int

    @property
    def there(self) -> bool:
        return self.kept.load(self.start) is not None

    @property
    def images(self) -> int:
        return min(self.kept.parts.step, len(self.kept.images) - self.start)

    def answer(self, company: Company, progress: Progress) -> int:
        done = self.start

        def told() -> None:
            nonlocal done
            done += 1
            company.beat()
            progress(self.kept.what, done, len(self.kept.images))

        self.kept.answer(self.start, told)
        return done - self.start


def _tell_how_long(left: Sequence[_Job], rate: float, company: Company, tell: Callable[[str], None]) -> None:
    """Say how long a large pool will take, from the images a second of the first part."""
    images = sum(job.images for job in left)
    if images <= LARGE:
        return
    together = f" in each of {company.count} processes" if company.count > 1 else ""
    tell(
        f"{rate:,.0f} images a second{together}: the {images:,} images left to name take about "
        f"{duration(images / (rate * company.count))}; stopped and resumed, no image is asked about twice."
    )


def _wait_for_others(
    jobs: Sequence[_Job], company: Company, progress: Progress, tell: Callable[[str], None]
) -> int:
    """Wait until all parts are there, answer those that nobody else will, and return for how many images."""
    answered, lost = 0, set[int]()
    while missing := [job for job in jobs if not job.there]:
        late = next((job for job in missing if job.rank == 0 or company.gone(job.rank)), None)
        if late is None:
            progress("parts of all processes", len(jobs) - len(missing), len(jobs))
            time.sleep(POLL)
            continue
        if late.rank not in lost:
            lost.add(late.rank)
            share = plural(sum(job.rank == late.rank for job in missing), "part")
            tell(
                f"process {late.rank} of {company.count} has ended or is silent: process 0 answers the {share} that it left."
            )
        answered += late.answer(company, progress)
    return answered


def mapped(path: Path, shape: tuple[int, int], rows: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Write rows to a ``.npy`` file and return it mapped into memory: the system keeps what it has room for.

    Written as a file and not through the map, so that a full disk is an error and not a killed process.

    Args:
        path: The file; what was there is replaced.
        shape: Of the whole.
        rows: float32 (some, columns), in order.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(file, header)
        for some in rows:
            file.write(some.astype(np.float32, order="C").tobytes())
    found: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found
