"""How images are noised in training: RandAugment's ranges, with the flips and turns that keep the class.

Ranges capped where a tenth of the images was measured to leave its class (`fallow.augment.measure_reach`) helped on one
development data set and hurt on another (clothes +2.3 points in three draws, digits -4.5 in one, 4 labels a class:
``benchmarks/tuning.py``), so that they are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.augment import Policy, default_limits, strong_policy, weak_policy
from fallow.models import Space
from fallow.study.context import RungContext
from fallow.study.rung import Fold
from fallow.study.spaces import SPACES, spaces_of
from fallow.study.trained.tune import STRENGTH, decide, resolved

_PICKS = 2
_MOVES = {"none": (), "flip": ("hflip",), "turns": ("hflip", "vflip")}


@dataclass(frozen=True)
class Noise:
    """The two strengths of noise of a fit.

    Attributes:
        weak: Flips that keep the class and a small shift.
        strong: RandAugment and a hole, on top of that.
    """

    weak: Policy
    strong: Policy


def noise_of(ctx: RungContext, fold: Fold | None) -> Noise:
    """Return the noise of a fold, decided with that fold's labels alone.

    Flips and turns follow the views that keep the class (`fallow.study.spaces`).
    """
    asked, gray = ctx.config.augment, ctx.data.audit.channels == "gray"
    views = _views(spaces_of(ctx, fold))
    limits = default_limits(gray)
    for name in ("hflip", "vflip"):
        limits.pop(name, None)
    limits |= dict.fromkeys(_MOVES[views], 1.0)
    if views == "turns":
        limits["rotate"] = 1.0
    picks = asked.picks if isinstance(asked.picks, int) else _PICKS
    strength = float(resolved(ctx, fold, STRENGTH, 1.0))
    flips = _MOVES[views]
    weak = weak_policy(limits, flips=flips, gray=gray)
    strong = strong_policy(limits, picks=picks, magnitude=strength, flips=flips, gray=gray)
    if fold is None:
        said = f"Weak views: {weak.describe()}. Strong views: {strong.describe()}."
        decide(ctx, STRENGTH, strength, said, {"views": views})
    return Noise(weak, strong)


def noises(ctx: RungContext) -> int:
    """Return how many different noises the folds of this run decided on, as far as they have decided."""
    decided = [spaces for (_, name), spaces in ctx.scratch.items() if name == SPACES]
    return max(1, len({_views(spaces) for spaces in decided}))


def _views(spaces: tuple[Space, ...]) -> str:
    return max((space.views for space in spaces), key=lambda v: len(_MOVES[v]))
