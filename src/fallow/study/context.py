"""Everything a rung may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fallow.config import TrainConfig
from fallow.record import Decision, DecisionLog
from fallow.record.decision import DecisionSource
from fallow.study.bank import SpaceBank
from fallow.study.clock import Clock
from fallow.study.data import StudyData
from fallow.study.plan import SpacePlan
from fallow.study.rung import Fold, ImageSet
from fallow.tasks import Task
from fallow.types import Json, Progress, silent


@dataclass
class RungContext:
    """Data, vectors, decisions and clock of one study.

    Attributes:
        data: Labeled images and pool.
        task: What a label is.
        bank: Vectors.
        config: What was asked for.
        decisions: What was decided; rungs add theirs at the final refit.
        clock: The budget.
        plan: What may be embedded.
        progress: Who watches.
        scratch: Artefacts that rungs of the *same fold* share, by (fold key, name).
        workdir: Where the fit at hand keeps what it needs to go on after a kill; None keeps nothing.
        shared: Where its rung keeps what all of its fits use, until the last of them is kept.
        stop: Asked before each step of a fit with its number and the seconds spent: True ends the fit there.
        folder: The run's folder, for what is decided once a run; None keeps nothing.
        tell: Takes a sentence that a person should read while a fit goes on.
    """

    data: StudyData
    task: Task
    bank: SpaceBank
    config: TrainConfig
    decisions: DecisionLog
    clock: Clock
    plan: SpacePlan
    progress: Progress = silent
    scratch: dict[tuple[str, str], Any] = field(default_factory=dict)
    workdir: Path | None = None
    shared: Path | None = None
    stop: Callable[[int, float], bool] | None = None
    folder: Path | None = None
    tell: Callable[[str], None] = field(default=lambda sentence: None)

    # Cached: a list of 100,000 names and hashes takes longer to make than most of what is asked of it.
    @cached_property
    def labeled(self) -> ImageSet:
        """All labeled images, in the order of ``data.y``."""
        return self.data.images(self.data.labeled_ids)

    @cached_property
    def pool(self) -> ImageSet:
        """The unlabeled images that take part."""
        return self.data.images(self.data.pool_ids)

    @cached_property
    def extra(self) -> ImageSet:
        """The labeled images of another origin, in the order of ``data.extra_y``."""
        return self.data.images(self.data.extra_ids)

    def decide(
        self, name: str, value: Json, rule: str, pinned: bool = False, evidence: dict[str, Json] | None = None
    ) -> None:
        """Write down a value that a rule gave, or the user where it is pinned."""
        source: DecisionSource = "user" if pinned else "rule"
        self.decisions.add(Decision(name, value, source, rule, evidence or {}, pinned))

    def train_positions(self, fold: Fold | None) -> NDArray[np.int64]:
        """Return the labeled positions that a fit on ``fold`` may see."""
        everything = np.arange(len(self.data.y))
        return everything if fold is None else np.setdiff1d(everything, fold.held_out)

    def seed(self, fold: Fold | None) -> int:
        """Return the seed of a fit: its own for each fold, the same whenever it is run."""
        return self.config.seed * 1009 + (0 if fold is None else 1 + fold.repeat * 31 + fold.index)

    @staticmethod
    def scratch_key(fold: Fold | None) -> str:
        """Return the name under which ``scratch`` holds the artefacts of one fold."""
        return "final" if fold is None else fold.key

    def drop_scratch(self, fold: Fold | None) -> None:
        """Forget the artefacts of one fold."""
        key = self.scratch_key(fold)
        for name in [k for k in self.scratch if k[0] == key]:
            del self.scratch[name]
