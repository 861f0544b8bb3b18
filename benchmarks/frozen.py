"""A data set read and embedded once; every cell of a benchmark on frozen vectors is a draw out of it.

Auditing thousands of files takes longer than fitting the cheap rungs on them: so all images of a data set are audited and
embedded together, and a draw only says who is labeled, who is pool and who is tested.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from protocol import Draw, Known, load

SETS = ("ucmerced", "clothing", "cifar10", "digits", "fashion")
MOST = {"train": 1200, "test": 200}
"""Images a class that are used of the two splits of a large data set."""
VIEWS = {"ucmerced": "turns"}
"""The largest set of views that may vote; ``flip`` elsewhere: quarter turns never keep the class there."""


def limited(known: Known) -> Known:
    """Return a data set with at most `MOST` images a class, the same ones always."""

    def some(files: dict[str, list[Path]], most: int, what: str) -> dict[str, list[Path]]:
        drawn = {
            c: random.Random(f"{what}/{known.name}/{c}").sample(f, min(len(f), most))
            for c, f in files.items()
        }
        return {c: sorted(f) for c, f in drawn.items()}

    test = None if known.test is None else some(known.test, MOST["test"], "test")
    return Known(known.name, some(known.files, MOST["train"], "train"), test)


class World:
    """All images of a data set, audited and ready to be embedded.

    Args:
        name: Name of the data set, see `protocol.load`.
        data: Folder of all data sets.

    Attributes:
        known: Files by class, for `protocol.draw`.
    """

    def __init__(self, name: str, data: Path) -> None:
        from fallow.config import TrainConfig
        from fallow.data import audit, cache_dir, open_source
        from fallow.record import DecisionLog
        from fallow.study import Clock
        from fallow.study.bank import SpaceBank
        from fallow.study.data import StudyData
        from fallow.study.plan import plan_spaces

        self.name, self.known = name, limited(load(name, data.resolve()))
        rows = [(f, c) for c, files in self.known.files.items() for f in files]
        test = [(f, c) for c, files in (self.known.test or {}).items() for f in files]
        with tempfile.TemporaryDirectory(prefix="fallow-bench-") as work:
            table = Path(work) / "data.csv"
            Draw(rows, [], test).write_csv(table)
            found = audit(open_source(table))
        self.config = TrainConfig(offline=True, rungs="probe,propagate")
        self._whole = StudyData.build(found, 0, DecisionLog())
        self.bank = SpaceBank(self.config.embed, cache_dir(), offline=True)
        plan = plan_spaces(self._whole, self.bank, Clock(10_000_000.0), DecisionLog())
        most = VIEWS.get(name, "flip")
        self._plan = replace(plan, views=tuple(v if v == "none" else most for v in plan.views))
        self._there = {*self._whole.labeled_ids, *self._whole.test_ids}

    def context(
        self, labeled: Sequence[tuple[Path, str]], pool: Sequence[tuple[Path, str]], seed: int
    ) -> Any:
        """Return what rungs look at, for one draw; images that the audit took out are left out."""
        from fallow.record import DecisionLog
        from fallow.study import Clock, RungContext
        from fallow.tasks import classification_task

        mine = sorted((str(f), c) for f, c in labeled if str(f) in self._there)
        classes = tuple(sorted({c for _, c in mine}))
        ids = tuple(i for i, _ in mine)
        data = replace(
            self._whole,
            classes=classes,
            labeled_ids=ids,
            y=np.array([classes.index(c) for _, c in mine], np.int64),
            in_validation=np.zeros(len(ids), bool),
            groups=ids,
            pool_ids=tuple(sorted(str(f) for f, _ in pool if str(f) in self._there)),
            test_ids=(),
        )
        plan = replace(self._plan, pool=len(data.pool_ids))
        config = self.config.model_copy(update={"seed": seed})
        task = classification_task(classes)
        return RungContext(data, task, self.bank, config, DecisionLog(), Clock(10_000_000.0), plan)

    def images(self, files: Sequence[tuple[Path, str]]) -> tuple[Any, list[str]]:
        """Return images that can be read, and their classes."""
        there = [(str(f), c) for f, c in files if str(f) in self._there]
        return self._whole.images(tuple(i for i, _ in there)), [c for _, c in there]
