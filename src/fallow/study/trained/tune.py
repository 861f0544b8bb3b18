"""What labels-only training searches for: planned once a run, found in each fold with that fold's labels alone, kept on disk.

A value that was found counts for every trained rung of its fold: it says how this network learns from these images, whether
or not others without labels stand beside them. What somebody pinned is never searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fallow.record import Decision, read_json, write_json
from fallow.record.decision import DecisionSource
from fallow.search import evaluations
from fallow.study.context import RungContext
from fallow.study.effort import SLOWER
from fallow.study.rung import Fold
from fallow.types import Json, JsonObject

LR, DECAY, STRENGTH, MIX = (
    "optimization.lr",
    "optimization.weight_decay",
    "augment.strength",
    "augment.mix",
)
SEARCH_FROM = 100
"""Labels in a fold from which values are searched; below, the defaults of several data sets know more than a few labels do."""
PROBE_STEPS = 40
"""Steps of the run in which the learning rate rises."""
PARTS = 3
"""A fold's labels are dealt into so many parts: one is held out, which leaves twice as many to learn from."""
_SHARE = 1 / 3
"""Share of the rung's time that all searches may take."""
_LEAST_SECONDS = 1.0
"""Seconds that a fit of the search takes whatever its steps are."""
_FEWEST_BLOCKS, _FEWEST_RIVALS = 2, 2
_KEY, _FILE = ("run", "tuning"), "tuning.json"
_NAME = "finetune.search"
_RULE = (
    "So many candidates, the default among them, race inside each fold's own labels, half of its rivals leaving after each part "
    f"that is held out: as many as fit into {_SHARE:.0%} of the rung's time."
)


@dataclass(frozen=True)
class TuningPlan:
    """How each fold searches.

    Attributes:
        rivals: Candidates beside the default.
        blocks: Parts of the fold's labels that are held out, one after the other.
        steps: Steps of each fit.
        seconds: What the search of one fold is expected to take.
    """

    rivals: int
    blocks: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Found:
    """What a fold found.

    Attributes:
        values: Config key -> value that is surely better than the default; others keep their default.
        evidence: Figures of all candidates.
    """

    values: JsonObject
    evidence: JsonObject = field(default_factory=dict)


@dataclass
class Tuning:
    """The searches of a run.

    Attributes:
        plan: How they are made; None where none is.
        reason: Why none is made, in a sentence.
        found: What was found, by fold.
        decision: The plan as a decision; None where none was made.
    """

    plan: TuningPlan | None = None
    reason: str = "A default that was measured on several data sets."
    found: dict[str, Found] = field(default_factory=dict)
    decision: Decision | None = None


def tuning_of(ctx: RungContext) -> Tuning:
    """Return the searches of this run; a run that planned none has none."""
    made: Tuning = ctx.scratch.setdefault(_KEY, Tuning())
    return made


def resolved(ctx: RungContext, fold: Fold | None, name: str, default: Json) -> Any:
    """Return a value by its config key: as pinned, else as this fold found it, else the default."""
    asked = _asked(ctx, name)
    if asked != "auto":
        return asked
    found = tuning_of(ctx).found.get(ctx.scratch_key(fold))
    return default if found is None else found.values.get(name, default)


def decide(
    ctx: RungContext, name: str, value: Json, said: str = "", evidence: JsonObject | None = None
) -> None:
    """Write down a value of the refit, and where it comes from.

    Args:
        ctx: Decisions.
        name: Config key.
        value: What is used.
        said: What there is to say beside where it comes from.
        evidence: Figures beside those of the search.
    """
    tuning, pinned = tuning_of(ctx), _asked(ctx, name) != "auto"
    found = tuning.found.get(ctx.scratch_key(None))
    source: DecisionSource = "user" if pinned else "rule" if found is None else "search"
    if pinned:
        rule = "Asked for."
    elif found is None:
        rule = tuning.reason
    elif name in found.values:
        rule = "A lower held-out loss than with the default inside the training labels, beyond chance."
    else:
        rule = "No other value that was tried was surely better inside the training labels."
    figures = {**(evidence or {}), **({} if found is None or pinned else found.evidence)}
    ctx.decisions.add(Decision(name, value, source, f"{rule} {said}".strip(), figures, pinned))


def plan_tuning(
    ctx: RungContext,
    seconds: float,
    step: float,
    steps: int,
    folds: Sequence[Fold],
    axes: Mapping[str, Sequence[Json]],
) -> float:
    """Plan the searches of a run, once, and return the seconds to set aside for them.

    Args:
        ctx: Labels and decisions.
        seconds: What the rung may take in all.
        step: What a step takes.
        steps: Steps that a fit of the search needs to tell anything of one with as many or more.
        folds: Folds that the rung could be measured on; the refit comes on top.
        axes: What there is to search, values in the order in which they are tried.
    """
    if tuning_of(ctx).decision is None:
        tuning, figures = _planned(ctx, seconds, step, steps, folds, axes)
        value: Json = "skipped" if tuning.plan is None else tuning.plan.rivals + 1
        tuning.decision = Decision(_NAME, value, "rule", tuning.reason or _RULE, figures)
        ctx.scratch[_KEY] = tuning
        ctx.decisions.add(tuning.decision)
        _keep(ctx)
    known = tuning_of(ctx).plan
    return 0.0 if known is None else (len(folds) + 1) * known.seconds


def keep_found(ctx: RungContext, fold: Fold | None, found: Found) -> None:
    """Make what a fold found a fact, before its fit begins."""
    tuning_of(ctx).found[ctx.scratch_key(fold)] = found
    _keep(ctx)


def recall_tuning(ctx: RungContext) -> None:
    """Take up what an interrupted run, or the one that is followed, had planned and found."""
    path = None if ctx.folder is None else ctx.folder / _FILE
    if path is not None and path.is_file():
        _take_up(ctx, read_json(path))
    elif ctx.config.replay.tuning:
        _take_up(ctx, ctx.config.replay.tuning)
        _keep(ctx)


def followed_tuning(ctx: RungContext) -> dict[str, Any]:
    """Return the searches for a run that follows this one, which takes what was found; empty where none was made."""
    return _to_json(tuning_of(ctx)) if tuning_of(ctx).plan is not None else {}


def _planned(
    ctx: RungContext,
    seconds: float,
    step: float,
    steps: int,
    folds: Sequence[Fold],
    axes: Mapping[str, Sequence[Json]],
) -> tuple[Tuning, JsonObject]:
    most = sum(len(values) for values in free(ctx, axes).values())
    labels, searches = min(len(ctx.train_positions(f)) for f in (None, *folds)), len(folds) + 1
    if not most:
        return Tuning(None, "Nothing is left to search: all values are pinned."), {}
    if labels < SEARCH_FROM:
        reason = (
            f"Below {SEARCH_FROM} labels in a fold the defaults of several data sets know more than they do."
        )
        return Tuning(None, reason), {"labels_in_a_fold": labels}
    allowed = _SHARE * seconds / searches
    each = steps * step * SLOWER + _LEAST_SECONDS

    def needed(rivals: int, blocks: int) -> float:
        return PROBE_STEPS * step * SLOWER + evaluations(rivals + 1, blocks) * each

    figures: JsonObject = {
        "labels_in_a_fold": labels,
        "seconds_allowed_a_fold": round(allowed, 1),
        "seconds_a_step": round(step, 4),
    }
    fewest = min(_FEWEST_RIVALS, most)
    sizes = ((r, b) for r in range(most, fewest - 1, -1) for b in range(PARTS, _FEWEST_BLOCKS - 1, -1))
    fits = next(((r, b) for r, b in sizes if needed(r, b) <= allowed), None)
    if fits is None:
        least = needed(fewest, _FEWEST_BLOCKS)
        reason = (
            f"The search was left out: it needs about {least * searches:.0f} s, and {_SHARE:.0%} of the rung's time is "
            f"{max(allowed, 0.0) * searches:.0f} s. A default that was measured on several data sets."
        )
        return Tuning(None, reason), {**figures, "seconds_needed_a_fold": round(least, 1)}
    plan = TuningPlan(*fits, steps, round(needed(*fits), 2))
    return Tuning(plan, ""), {**figures, "blocks": plan.blocks, "steps": plan.steps}


def free(ctx: RungContext, axes: Mapping[str, Sequence[Json]]) -> dict[str, Sequence[Json]]:
    """Return the axes that nobody pinned."""
    return {name: values for name, values in axes.items() if _asked(ctx, name) == "auto"}


def _asked(ctx: RungContext, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(ctx.config, section), key)


def _keep(ctx: RungContext) -> None:
    if ctx.folder is not None:
        write_json(ctx.folder / _FILE, _to_json(tuning_of(ctx)))


def _to_json(tuning: Tuning) -> JsonObject:
    return asdict(tuning)


def _take_up(ctx: RungContext, kept: Mapping[str, Any]) -> None:
    plan = None if kept["plan"] is None else TuningPlan(**kept["plan"])
    made = None if kept["decision"] is None else Decision.from_json(kept["decision"])
    found = {key: Found(**one) for key, one in kept["found"].items()}
    ctx.scratch[_KEY] = Tuning(plan, kept["reason"], found, made)
    if made is not None:
        ctx.decisions.add(made)
