"""Which pool images seem to be of no class, and how strange each is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.report.words import plural
from fallow.study.choose import mix_weights
from fallow.study.context import RungContext
from fallow.study.inputs import FrozenInputs
from fallow.study.trained.foreign import benjamini_hochberg, conformal_p_values, nearness
from fallow.types import Json

_NEIGHBORS = 3
"""Labeled images that an image should be near to: one that resembles a single odd label is a stranger still. Development draw of
clothes with a fifth of aerial photos mixed in: area under the ROC curve 0.992, with the nearest alone 0.984."""
_FALSE_SHARE = 0.2
_EDGE = 0.1
"""Where strangers were found the farthest tenth of what belongs to the classes is not accepted either: strangers hide there. Four
such draws: 0.5 % of what was accepted were strangers, without this 2.6 %, with nothing set aside 26 %."""
_MOST = 1 / 3
"""More than this set aside tells that the labels are no random draw, not that the pool is foreign."""
_FEWEST = 20
"""With fewer labels how far apart labels are is not known well enough to call an image strange."""


@dataclass(frozen=True, eq=False)
class Strangers:
    """What was found.

    Attributes:
        score: float64 (pool,), share of labels that are nearer to other labels than the image is to them, 0 to 1; NaN where it
            could not be asked.
        foreign: bool (pool,), set aside.
        edge: bool (pool,), not foreign, but too far out to be accepted.
        doubted: How many images seem to be of no class but are too many for that to be said; 0 where they were set aside.
    """

    score: NDArray[np.float64]
    foreign: NDArray[np.bool_]
    edge: NDArray[np.bool_]
    doubted: int = 0

    @property
    def note(self) -> str:
        """What a person should know; empty where there is nothing."""
        if not self.doubted:
            return ""
        return (
            f"{self.doubted:,} of {plural(len(self.score), 'unlabeled image')} lie farther from your labels than these from each other, "
            "too many to be set aside as foreign: either they are of none of your classes and named wrongly, or your labels are no random "
            "sample of such images. Look at some of them."
        )


def find_strangers(ctx: RungContext, asked: str, mix: NDArray[np.float64]) -> Strangers:
    """Find images of no class by their distance to the nearest labels (conformal outlier detection, Bates et al., Annals of
    Statistics 2023, arXiv 2104.08279; set aside by Benjamini and Hochberg's rule).

    Args:
        ctx: Data and vectors.
        asked: ``auto``, or ``keep``: nothing is set aside, the score is still told.
        mix: Estimated share of each of the data's classes in the pool, (classes,): where a class that lies scattered is common in
            the pool and not among the labels, its images must not pass for strangers.
    """
    if len(ctx.data.y) < 2:
        none = np.zeros(len(ctx.pool), bool)
        return Strangers(np.full(len(ctx.pool), np.nan), none, none)
    found = strangers_of(FrozenInputs(ctx, None), ctx.data.y, asked, mix)
    foreign = found.foreign
    figures: dict[str, Json] = {
        "set_aside": int(foreign.sum()),
        "too_many": found.doubted,
        "of": len(ctx.pool),
        "labels": len(ctx.data.y),
    }
    ctx.decide(
        "label.foreign",
        "set aside" if foreign.any() else "none",
        "Images are set aside that are farther from the labels than labels are from each other, and more of them than chance would "
        f"have; none where these would be more than a third, or with fewer than {_FEWEST} labels.",
        pinned=asked == "keep",
        evidence=figures,
    )
    return found


def strangers_of(
    inputs: FrozenInputs, y: NDArray[np.int64], asked: str, mix: NDArray[np.float64]
) -> Strangers:
    """Find images of no class by the labels that a fit may see, two or more of classes ``y``; see `find_strangers`."""
    none = np.zeros(len(inputs.labels) - len(y), bool)
    near, far = nearness(inputs, _NEIGHBORS)
    p = conformal_p_values(near, far, mix_weights(y, mix))
    foreign, doubted = none, 0
    if asked != "keep" and len(y) >= _FEWEST:
        foreign = benjamini_hochberg(p, _FALSE_SHARE)
        if foreign.mean() > _MOST:
            foreign, doubted = none, int(foreign.sum())
    edge = (p <= _EDGE) & ~foreign if foreign.any() else none
    return Strangers(1.0 - p, foreign, edge, doubted)
