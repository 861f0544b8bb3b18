"""What a rung of the ladder is, and what it leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from fallow.tasks import Posteriors
from fallow.types import JsonObject, RungName

if TYPE_CHECKING:
    from fallow.study.context import RungContext


@dataclass(frozen=True)
class Fold:
    """Which labels are held out.

    Attributes:
        repeat: Which fold assignment.
        index: Which fold of it.
        held_out: Positions in the labeled list that this fold must never see, (k,).
    """

    repeat: int
    index: int
    held_out: NDArray[np.int64]

    @property
    def key(self) -> str:
        """Name under which artefacts of this fold are kept."""
        return f"{self.repeat}-{self.index}"


@dataclass(frozen=True)
class RungInfo:
    """How a rung describes itself.

    Attributes:
        name: Name in ``result.json``.
        title: A few words.
        cheap: True for rungs of seconds; dear ones that nothing could measure are kept at P(better) >= 0.8, all others above 0.5.
        labels_only: True when nothing but labels is looked at: such rungs are the honest opponents.
        needs_pool: True when there must be unlabeled images.
        needs_extra: True when there must be labeled images of another origin.
        from_scratch: True when it is tried unasked only where the network that is trained starts from random weights.
    """

    name: RungName
    title: str
    cheap: bool
    labels_only: bool
    needs_pool: bool
    needs_extra: bool = False
    from_scratch: bool = False


@dataclass(frozen=True)
class Cost:
    """What fitting a rung once is expected to take.

    Attributes:
        seconds: For one fit; of a rung with a workload, for one step.
        once: For what all of its fits share, before the first.
        beside: For what each fit takes beside its steps, held-out images aside.
    """

    seconds: float
    once: float = 0.0
    beside: float = 0.0


@dataclass(frozen=True)
class Workload:
    """How many steps a trained rung makes sense with.

    Attributes:
        least: With fewer it is not worth trying.
        enough: What is aimed at; more folds are measured rather than more steps taken.
        most: More bring nothing that is worth the time.
    """

    least: int
    enough: int
    most: int


@dataclass(frozen=True)
class ImageSet:
    """Images that can be read when they are needed.

    Attributes:
        ids: Names.
        pixel_hashes: Content of each, the key under which vectors are cached.
        read: Returns the uint8 (H, W, 3) pixels of an id.
    """

    ids: Sequence[str]
    pixel_hashes: Sequence[str]
    read: Callable[[str], NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: slice) -> ImageSet:
        """Return some of the images."""
        return ImageSet(self.ids[rows], self.pixel_hashes[rows], self.read)


class Candidate(ABC):
    """A fitted model that could be what the user gets."""

    @abstractmethod
    def predict(self, images: ImageSet) -> Posteriors:
        """Return calibrated posteriors; each image is looked at on its own."""

    @abstractmethod
    def state(self) -> tuple[dict[str, NDArray[np.generic]], JsonObject]:
        """Return everything needed to rebuild the candidate: arrays and plain values."""

    @abstractmethod
    def calibrated(self, temperature: float) -> Candidate:
        """Return the same candidate with its log-probabilities divided by ``temperature``; no guess changes."""

    @property
    def mix(self) -> NDArray[np.float64] | None:
        """Estimated share of each class in the pool, (classes,); None for a model that looked at no pool."""
        return None

    @abstractmethod
    def export_graph(self, path: Path) -> None:
        """Write one ONNX file that takes the original uint8 image."""


class Rung(ABC):
    """One step of the ladder.

    ``fit`` for a fold may use artefacts of the same fold only (its own, and those of the rungs below in ``below``), so
    that nothing that is scored on a label has seen it.
    """

    info: ClassVar[RungInfo]
    workload: ClassVar[Workload | None] = None
    needs: ClassVar[tuple[RungName, ...]] = ()
    """Rungs below of which one at least must have been climbed."""
    shared: ClassVar[bool] = False
    """The steps are taken once a run, without any label, and all fits use what they leave."""

    @abstractmethod
    def estimate(self, ctx: RungContext) -> Cost:
        """Return what one fit would take; of a rung with a workload, what one step takes."""

    def answer(self, ctx: RungContext) -> float:
        """Return what an image takes that the rung is asked about, from the file to the answer; 0 where vectors of it are there.

        It is found out before anything else is measured.
        """
        return 0.0

    def prepare(
        self, ctx: RungContext, seconds: float, step: float, workload: Workload, folds: Sequence[Fold]
    ) -> float:
        """Plan what comes before the steps of a rung's fits, once a run, and return the seconds that all of it takes.

        Args:
            ctx: Data, vectors, decisions and clock.
            seconds: What the rung may take.
            step: What a step takes.
            workload: How many steps make sense.
            folds: What it could be measured on; the refit comes on top.
        """
        return 0.0

    @abstractmethod
    def fit(
        self,
        ctx: RungContext,
        fold: Fold | None,
        below: Mapping[RungName, Candidate],
        steps: int | None = None,
    ) -> Candidate:
        """Fit on the labels outside of ``fold`` (all labels for None) and return the candidate.

        Args:
            ctx: Data, vectors, decisions and clock.
            fold: What to hold out; None is the final refit.
            below: Candidates of the rungs below, of the same fold.
            steps: Planned number of steps, for rungs that take steps.
        """

    @abstractmethod
    def restore(
        self, ctx: RungContext, tensors: dict[str, NDArray[np.generic]], meta: JsonObject
    ) -> Candidate:
        """Rebuild a candidate of this rung from `Candidate.state`."""
