"""Doing again what a run did: its ``config.yaml`` holds what its clock and its searches settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fallow.config import ReplayConfig, TrainConfig, dump_config, merge, nest
from fallow.record import Decision
from fallow.study.plan import SpacePlan
from fallow.types import RungName

_SEARCHED = "embed.views"
"""Decided in each fold and for each embedding, whatever the rule said for the last of them."""


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


def config_text(
    config: TrainConfig,
    decisions: Iterable[Decision],
    fingerprint: str,
    plan: SpacePlan,
    folds: Mapping[RungName, int],
) -> str:
    """Return ``config.yaml`` of a finished run: no "auto" is left that a decision settled.

    Args:
        config: What was asked for.
        decisions: What was decided.
        fingerprint: Of the data.
        plan: What was embedded.
        folds: Rungs that were climbed, with the number of folds of each.
    """
    dumped: dict[str, Any] = config.model_dump(mode="json")
    settled: dict[str, Any] = {}
    searched: dict[str, Any] = {}
    for d in decisions:
        section, _, name = d.name.partition(".")
        if not isinstance(dumped.get(section), dict) or name not in dumped[section] or section == "replay":
            continue
        if d.name == "choose.folds" and d.value == 0:
            continue  # follows from the data, and is nothing that can be asked for
        settled[d.name] = d.value
        if not d.pinned and (d.source == "search" or d.name == _SEARCHED):
            searched[d.name] = d.value
    replay = {"data": fingerprint, "spaces": plan.to_json(), "folds": dict(folds), "searched": searched}
    return dump_config(
        merge(dumped, {**nest(settled), "rungs": ",".join(folds)})
        | {"replay": ReplayConfig(**replay).model_dump()}
    )
