"""What there is time for: every cut is a plan that is written down, so that it is made once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from fallow.models import view_indices
from fallow.record import Decision
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.plan import BUDGET
from fallow.study.rung import Fold
from fallow.study.spaces import spaces_of
from fallow.study.stage import StagePlan
from fallow.types import RungName

_FOLDS_SHARE, _LAST_SHARE = 0.4, 0.8
"""Share of the time left that held-out fits of a rung may take: the rungs above need the rest; above the last is none."""
_SLACK = 1.25
"""A planned number of fits is cut only when it takes this much longer than planned."""
_REPORT_SECONDS, _REPORT_SHARE, _REPORT_MOST = 1.5, 0.05, 5.0
"""What writing the report takes at least, and the share of the budget that is kept for it up to some seconds."""
_STRETCH, _STRETCH_MOST = 0.05, 3.0
"""A rung that needs no more than this share of the budget, up to some seconds, is tried though the time is up: the
promise is to end within a tenth of the budget, and the rung is what the run is for."""
_EXPORT_SECONDS = 1.0
SHOWN_LEAST = 200
"""Unlabeled images that the report shows at least; of more a trained network is asked where there is time."""
_COMPARED_LEAST, _COMPARED_MOST, _COMPARED_SHARE = 4, 50, 0.05
"""On how many images the exported file is compared with the model in memory, where it does not score the test split, and
the share of the budget that it may take."""


def embed_everything(ctx: RungContext, folds: Sequence[Fold]) -> float:
    """Compute all vectors that the rungs will ask for and return the seconds it took.

    Embedding is paid for by the run, not by the first rung that needs it: a fold's time then says what a fold costs.
    """
    started = time.monotonic()
    spaces = dict.fromkeys(space for fold in (*folds, None) for space in spaces_of(ctx, fold))
    for space in spaces:
        ctx.bank.pooled(space, ctx.labeled, "labeled")
        if len(ctx.pool):
            ctx.bank.pooled(space, ctx.pool, "pool")
        if len(ctx.extra):
            ctx.bank.pooled(space, ctx.extra, "extra images")
    return time.monotonic() - started


def image_seconds(ctx: RungContext) -> float:
    """Return what one image takes from the file to an answer, by what the plan measured; 0 where it measured nothing."""
    made = ctx.decisions.get(BUDGET)
    total = 0.0
    for space in spaces_of(ctx, None) if made is not None else ():
        measured = made.evidence.get(space.backbone_name) if made is not None else None
        if isinstance(measured, dict):
            total += float(measured.get("seconds_an_image", 0.0)) * len(view_indices(space.views))  # type: ignore[arg-type]
    return total


class Pace:
    """Asks the clock on behalf of the ladder.

    Args:
        clock: The budget.
        ctx: Data.
        embed_seconds: What embedding labeled images and pool took: the test images will take as long, each.
        image_seconds: What one image takes through the exported file, which is compared with the model on a few.

    Attributes:
        report: Seconds kept for the report.
        compared: On how many images the exported file is compared with the model in memory.
        owed: Seconds that the answers of trained rungs will take after the last rung, by rung.
    """

    def __init__(
        self, clock: Clock, ctx: RungContext, embed_seconds: float, image_seconds: float = 0.0
    ) -> None:
        self.clock = clock
        tested = len(ctx.data.test_ids)
        fits = int(_COMPARED_SHARE * clock.budget / max(image_seconds, 1e-9))
        self.compared = min(
            max(_COMPARED_LEAST, min(fits, _COMPARED_MOST)), tested or len(ctx.data.labeled_ids)
        )
        seen = len(ctx.data.labeled_ids) + len(ctx.data.pool_ids) + len(ctx.data.extra_ids)
        self._asked = tested + min(SHOWN_LEAST, len(ctx.data.pool_ids))
        self.owed: dict[RungName, float] = {}
        self.report = max(_REPORT_SECONDS, min(_REPORT_SHARE * clock.budget, _REPORT_MOST))
        self._reserve = (
            embed_seconds * tested / seen + image_seconds * self.compared + self.report + _EXPORT_SECONDS
        )

    @property
    def reserve(self) -> float:
        """Seconds kept for all that comes after the last rung: any network may be asked, for all of them may vote."""
        return self._reserve + sum(self.owed.values())

    def answers(self, image: float) -> float:
        """Return what a network that takes so many seconds an image will take for the test images and the report's least.

        No vectors of its own are kept from run to run, and it was trained on images that lay in memory at their size: a large
        test split can take it longer than all of its steps.
        """
        return image * self._asked

    @property
    def left(self) -> float:
        """Seconds that rungs may still take, what comes after them set aside; may be negative."""
        return self.clock.left - self.reserve

    def holds(self, seconds: float) -> bool:
        """Say whether what comes after the last rung may take so long: there is time, or it hardly takes any."""
        return seconds <= max(self.clock.left - self.report, min(_STRETCH * self.clock.budget, _STRETCH_MOST))

    def skip(self, name: RungName, seconds: float) -> StagePlan | None:
        """Return the plan to leave a rung out when even its refit, of ``seconds``, does not fit; else None."""
        if seconds <= max(self.left, min(_STRETCH * self.clock.budget, _STRETCH_MOST)):
            return None
        left = max(self.left, 0.0)
        note = f"{name} was skipped: it needs about {seconds:.0f} s and {left:.0f} s were left for it."
        rule = "A rung is left out when its refit alone does not fit into what is left of the budget."
        figures = {"seconds_needed": round(seconds, 1), "seconds_left": round(left, 1)}
        return StagePlan(
            0, 0.0, True, note, Decision(f"{name}.folds", "skipped", "rule", rule, dict(figures))
        )

    def held_out_seconds(self, spent: float, last: bool = False) -> float:
        """Return what the held-out fits of a rung may take in all, ``spent`` by an interrupted run included.

        Args:
            spent: Seconds that they took before.
            last: No rung comes above it.
        """
        return spent + (_LAST_SHARE if last else _FOLDS_SHARE) * max(self.left, 0.0)

    def cut(
        self,
        name: RungName,
        plan: StagePlan | None,
        position: int,
        folds: int,
        spent: float,
        last: float,
        seconds: float,
    ) -> StagePlan | None:
        """Return a new plan before the fit at ``position``; None where the plan stays as it is.

        The first fit pays for what all share, so the second tells what one costs: then the number of fits is planned.
        A plan is cut again only when the machine turns out to be much slower.

        Args:
            name: The rung.
            plan: What was planned before, if anything.
            position: Fits that are done.
            folds: Fits that there could be.
            spent: Seconds they took.
            last: Seconds of the last one; 0 where none was made by this process.
            seconds: What they may take in all.
        """
        if position == 0 or last == 0.0 or (plan is not None and plan.seconds is None):
            return None
        if plan is not None:
            late = spent + last > _SLACK * (plan.seconds or 0.0) and self.left < last
            if not late:
                return None
            return self._planned(name, position, folds, last, plan.seconds or 0.0, plan)
        fits = position + int((seconds - spent) / last)
        if position > 1 or fits <= position:
            return self._planned(name, max(position, min(fits, folds)), folds, last, seconds)
        return None

    def _planned(
        self,
        name: RungName,
        count: int,
        folds: int,
        each: float,
        seconds: float,
        before: StagePlan | None = None,
    ) -> StagePlan:
        before = before or StagePlan(folds)
        if count >= folds:
            return replace(before, folds=folds, seconds=seconds, note="", decision=None)
        rule = "Held-out fits of a rung may take a share of the time left: as many folds as fit."
        figures = {
            "folds": folds,
            "seconds_a_fit": round(each, 2),
            "seconds_allowed": round(seconds, 1),
        }
        note = f"{name} was measured on {count} of {folds} folds: the budget allowed no more."
        made = Decision(f"{name}.folds", count, "rule", rule, dict(figures))
        return replace(before, folds=count, seconds=seconds, note=note, decision=made)
