"""Pictures for the page of labels: a fair sample of the accepted, the most doubtful, the strangest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fallow.engine import derive
from fallow.export.labels import LabelSet
from fallow.record.labels import Verdict
from fallow.report import Thumb, picture
from fallow.types import Progress

_EACH = 96
"""Pictures in each of the three grids."""
_SIDE = 160
"""Longer side in pixels: with 288 pictures of some 5 kB the page stays under 2 MB."""


def pictures(labels: LabelSet, seed: int, progress: Progress) -> dict[Verdict, list[Thumb]]:
    """Return the pictures of each verdict, in the order in which they are shown."""
    pool = labels.pool
    doubtful, foreign = pool.where("doubtful"), pool.where("foreign")
    chosen: dict[Verdict, NDArray[np.int64]] = {
        "accept": _sample(labels, derive(seed, "label pictures")),
        "doubtful": doubtful[np.argsort(pool.probability[doubtful], kind="stable")][:_EACH],
        "foreign": foreign[np.argsort(-pool.ood_score[foreign], kind="stable")][:_EACH],
    }
    total, done = sum(map(len, chosen.values())), 0
    found: dict[Verdict, list[Thumb]] = {verdict: [] for verdict in chosen}
    for verdict, rows in chosen.items():
        for row in rows.tolist():
            id_ = pool.ids[row]
            found[verdict].append(
                Thumb(id_, picture(labels.read, id_, _SIDE), pool.label(row), float(pool.probability[row]))
            )
            done += 1
            progress("pictures", done, total)
    return found


def _sample(labels: LabelSet, seed: int) -> NDArray[np.int64]:
    """Return a random sample of the accepted, every class in turn, so that a large class cannot fill the grid."""
    pool = labels.pool
    rows = np.random.default_rng(seed).permutation(pool.where("accept"))
    rank = np.zeros(len(rows), np.int64)
    for number in np.unique(pool.guess[rows]):
        members = np.flatnonzero(pool.guess[rows] == number)
        rank[members] = np.arange(len(members))
    picked = rows[np.argsort(rank, kind="stable")[:_EACH]]
    return picked[np.lexsort((-pool.probability[picked], pool.guess[picked]))]
