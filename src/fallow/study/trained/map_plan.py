"""How many noised views of each image the frozen part of a network is run on: decided once a run, from speed, time and room."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass

from fallow.methods import Strength
from fallow.record import Decision, read_json, write_json
from fallow.record.decision import DecisionSource
from fallow.study.context import RungContext
from fallow.types import Json

_NAME = "network.views"
_KEY = ("run", "map plan")
_FILE = "maps.json"
_VIEWS, _LABELED_VIEWS = 4, 16
"""Strong views of an image of the pool, and views of a labeled image at each strength: of the few labeled images as many as
a network needs not to learn the views themselves."""
_SHARE, _LABELED_SHARE = 0.25, 0.3
"""Share of the time left that maps may take, and share of that for labeled images."""
_DISK_SHARE = 0.5
_LEAST_POOL, _LEAST_POOL_A_CLASS = 100, 10
_HALF_MOST = 1e4
"""Where maps have larger values than this, half precision is not asked to hold them."""


@dataclass(frozen=True)
class MapPlan:
    """How many views have maps, decided once a run.

    Attributes:
        views: Strong views of an image of the pool, and half as many weak ones; 0: images are noised in each step.
        labeled: Views of a labeled image, of each strength.
        pool: How many images of the pool have maps; others take no part in training.
        half: Maps are kept in half precision.
        extra: How many extra images have maps, as many views of each as of an image of the pool.
    """

    views: int
    labeled: int = 0
    pool: int = 0
    half: bool = True
    extra: int = 0

    def count(self, strength: Strength, known: bool) -> int:
        """Return the number of views of an image at a strength."""
        if strength == "none":
            return 1
        return self.labeled if known else self.views if strength == "strong" else max(1, self.views // 2)


@dataclass(frozen=True)
class Speed:
    """What was measured of a trunk.

    Attributes:
        seconds: What a noised view takes on all cores.
        largest: Largest value in the maps of a few images.
        values: Numbers in the maps of a view.
    """

    seconds: float
    largest: float
    values: int


def known_plan(ctx: RungContext) -> MapPlan | None:
    """Return the plan, if it was made, or if the run that is followed made one that is what was asked for."""
    if _KEY not in ctx.scratch and (again := ctx.config.replay.maps):
        half, extra = bool(again["half"]), again.get("extra", 0)
        plan = MapPlan(again["views"], again["labeled"], again["pool"], half, extra)
        asked = ctx.config.network.views
        if asked == "auto" or (asked == plan.views and plan.pool == len(ctx.pool)):
            _settle(ctx, plan, "As in the run that this one follows.", {})
    found: MapPlan | None = ctx.scratch.get(_KEY)
    return found


def make_plan(ctx: RungContext, speed: Speed) -> MapPlan:
    """Plan views, and how much of the pool takes part. No label is looked at."""
    half = speed.largest <= _HALF_MOST
    size = speed.values * (2 if half else 4)
    cache = next(place for place in (ctx.bank.cache, *ctx.bank.cache.parents) if place.exists())
    seconds_allowed = _SHARE * max(ctx.clock.left, 0.0)
    most = min(seconds_allowed / speed.seconds, _DISK_SHARE * shutil.disk_usage(cache).free / size)
    labels, pool, asked = len(ctx.data.y), len(ctx.pool), ctx.config.network.views
    labeled = max(1, int(min(_LABELED_VIEWS, _LABELED_SHARE * most / (2 * labels))))
    theirs = len(ctx.extra)
    room = max(most - 2 * labels * labeled, 0.0) / max(pool + theirs, 1)
    views = next((v for v in range(_VIEWS, 1, -1) if v + v // 2 <= room), 1)
    least = max(_LEAST_POOL, _LEAST_POOL_A_CLASS * len(ctx.data.classes))
    share = room / (views + max(1, views // 2))
    part, extra = (min(there, max(min(there, least), int(there * share))) for there in (pool, theirs))
    if isinstance(asked, int):
        views, labeled, part, extra = asked, max(labeled, asked), pool, theirs
    plan = MapPlan(views, labeled, part, half, extra)
    rule = (
        "What stands still of the network is run once, on so many strongly noised views of each image of the pool, on half "
        "as many weakly noised ones, and on more of each labeled image: as many as a share of the time left allows."
    )
    evidence: dict[str, Json] = {
        "labeled_views": labeled,
        "pool": part,
        "pool_there": pool,
        **({"extra": extra, "extra_there": theirs} if theirs else {}),
        "bytes_a_view": size,
        "views_a_second": round(1 / speed.seconds, 1),
        "seconds_allowed": round(seconds_allowed, 1),
    }
    _settle(ctx, plan, rule, evidence)
    return plan


def no_plan(ctx: RungContext, reason: str) -> None:
    """Write down that images are noised in each step, and why."""
    if _KEY not in ctx.scratch:
        _settle(
            ctx,
            MapPlan(0),
            f"Images are noised and run through the whole network in each step: {reason}.",
            {},
        )


def recall_maps(ctx: RungContext) -> None:
    """Take up what an interrupted run had decided: later fits follow it, and the report tells it."""
    path = None if ctx.folder is None else ctx.folder / _FILE
    if path is not None and path.is_file():
        kept = read_json(path)
        ctx.scratch[_KEY] = MapPlan(**kept["plan"])
        ctx.decisions.add(Decision.from_json(kept["decision"]))


def followed_maps(ctx: RungContext) -> dict[str, int]:
    """Return the plan for a run that follows this one; empty where none was made."""
    plan: MapPlan | None = ctx.scratch.get(_KEY)
    return {} if plan is None else {name: int(value) for name, value in asdict(plan).items()}


def _settle(ctx: RungContext, plan: MapPlan, rule: str, evidence: dict[str, Json]) -> None:
    pinned = isinstance(ctx.config.network.views, int)
    source: DecisionSource = "user" if pinned else "rule"
    made = Decision(_NAME, plan.views, source, rule, evidence, pinned)
    ctx.scratch[_KEY] = plan
    ctx.decisions.add(made)
    if ctx.folder is not None:
        write_json(ctx.folder / _FILE, {"plan": asdict(plan), "decision": made.to_json()})
