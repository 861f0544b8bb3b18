"""Doing again what a run did: its ``config.yaml`` holds what its clock and its searches settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fallow.config import ReplayConfig, TrainConfig, dump_config, merge, nest
from fallow.record import Decision
from fallow.study.plan import SpacePlan
from fallow.study.stage import StagePlan
from fallow.types import RungName

_SEARCHED = "embed.views"
"""Decided in each fold and for each embedding, whatever the rule said for the last of them."""

_CLOCKED = "network.views"
"""Settled by the clock: followed on the same data, by `ReplayConfig.maps`, and decided anew on others."""

_WHOLE = ("method",)
"""Decisions about what is an option by itself and in no section."""

ELSEWHERE = "The config was written by a run on other data: its values are pinned, what its clock settled is not followed."
_FOLLOWED = "As in the run that this one follows: "


def followed(config: TrainConfig, fingerprint: str) -> TrainConfig:
    """Return ``config`` for these data: values that were searched are "auto" again, so that every fold searches its own.

    A value that somebody changed since is theirs, and stays. On other data than the run's nothing is followed.
    """
    if config.replay.data != fingerprint:
        return config.model_copy(update={"replay": ReplayConfig()})
    config = config.model_copy(deep=True)
    for key, found in config.replay.searched.items():
        section, _, name = key.partition(".")
        holder = getattr(config, section, None)
        if getattr(holder, name, None) == found:
            setattr(holder, name, "auto")
    return config


def planned(config: TrainConfig) -> SpacePlan | None:
    """Return what the replayed run embedded; None where nothing is replayed or other embeddings are asked for."""
    spaces = config.replay.spaces
    if not spaces:
        return None
    same = config.embed.backbone in ("auto", "+".join(spaces["backbones"]))
    size = config.embed.size == "auto" or config.embed.size in spaces["sizes"]
    return SpacePlan.from_json(spaces) if same and size else None


def stage_plan(replay: ReplayConfig, name: RungName) -> StagePlan | None:
    """Return what the replayed run did of a rung; None where nothing is replayed, or it did not know the rung."""
    if name in replay.skipped:
        note = _FOLLOWED + replay.skipped[name]
        rule = "The run that this one follows left the rung out."
        return StagePlan(0, 0.0, True, note, Decision(f"{name}.folds", "skipped", "rule", rule))
    return StagePlan(replay.folds[name], steps=replay.steps.get(name)) if name in replay.folds else None


def config_text(
    config: TrainConfig,
    decisions: Iterable[Decision],
    fingerprint: str,
    plan: SpacePlan,
    stages: Mapping[RungName, StagePlan],
    cuts: Mapping[str, int],
    maps: Mapping[str, int],
    tuning: Mapping[str, Any],
    rungs: Iterable[RungName],
) -> str:
    """Return ``config.yaml`` of a finished run: no "auto" is left that a decision settled, but for what the clock did.

    Args:
        config: What was asked for.
        decisions: What was decided.
        fingerprint: Of the data.
        plan: What was embedded.
        stages: What was done of each rung.
        cuts: Steps at which the clock ended fits, by rung and fold.
        maps: Views that the frozen part of the network was run on.
        tuning: What labels-only training searched, and what its folds found.
        rungs: Those that a run which follows tries.
    """
    dumped: dict[str, Any] = config.model_dump(mode="json")
    settled: dict[str, Any] = {}
    searched: dict[str, Any] = {}
    for d in decisions:
        if d.name in _WHOLE:
            settled[d.name] = d.value
            continue
        section, _, name = d.name.partition(".")
        if not isinstance(dumped.get(section), dict) or name not in dumped[section] or section == "replay":
            continue
        if d.name == "choose.folds" and d.value == 0:
            continue  # follows from the data, and is nothing that can be asked for
        if d.name == _CLOCKED and not d.pinned:
            continue
        settled[d.name] = d.value
        if not d.pinned and (d.source == "search" or d.name == _SEARCHED):
            searched[d.name] = d.value
    replay = ReplayConfig(
        data=fingerprint,
        spaces=plan.to_json(),
        folds={name: made.folds for name, made in stages.items() if not made.skipped},
        steps={name: made.steps for name, made in stages.items() if made.steps and not made.skipped},
        cuts=dict(cuts),
        maps=dict(maps),
        tuning=dict(tuning),
        skipped={name: _said_first(made.note) for name, made in stages.items() if made.skipped},
        searched=searched,
    )
    asked = {**nest(settled), "rungs": ",".join(rungs)}
    return dump_config(merge(dumped, asked) | {"replay": replay.model_dump()})


def _said_first(note: str) -> str:
    """Return what the first of several runs that follow each other said."""
    return note.removeprefix(_FOLLOWED)
