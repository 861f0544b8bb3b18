"""Learning from the pool alone inside a run of the ladder: once for all folds, for no label takes part in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import nn

from fallow.config import PretrainConfig
from fallow.engine import Loop, Outcome, Place, derive
from fallow.models import Backbone, Network, from_backbone, rebuild_backbone, to_backbone, token_info
from fallow.record import DecisionLog, read_json, write_json
from fallow.record.rundir import write_bytes
from fallow.study.context import RungContext
from fallow.study.pretraining.fit import Lesson
from fallow.study.pretraining.plan import Planner, PretrainPlan
from fallow.study.trained.fit import pixels_at
from fallow.study.trained.network import NetworkPlan, network_plan, starting_backbone
from fallow.types import JsonObject

NAME = "pretrain"
_TIMED = 1000
_WEIGHTS, _RECORD = "network.safetensors", "network.json"


@dataclass(frozen=True)
class PoolLesson:
    """The pool as a lesson.

    Attributes:
        planner: Says how steps are taken.
        lesson: Pixels.
        plan: Network, method, and settings for measuring a step.
        start: Where the network starts.
    """

    planner: Planner
    lesson: Lesson
    plan: PretrainPlan
    start: Backbone

    @classmethod
    def of(cls, ctx: RungContext) -> PoolLesson:
        """Return the lesson of a run, made once: the network that its trained rungs train, and the method asked for."""
        key = ("run", "pretrain lesson")
        if key not in ctx.scratch:
            ctx.scratch[key] = cls._made(ctx)
        found: PoolLesson = ctx.scratch[key]
        return found

    @classmethod
    def _made(cls, ctx: RungContext) -> PoolLesson:
        asked, network, count = ctx.config.optimization, learning(network_plan(ctx)), len(ctx.data.y)
        steps = {"precision": asked.precision, "gradient_checkpointing": asked.gradient_checkpointing}
        own = PretrainConfig.model_validate(
            {"method": ctx.config.pretrain.method, "seed": ctx.config.seed, "optimization": steps}
        )
        planner = Planner(ctx.data, own, ctx.bank, DecisionLog())
        pixels = pixels_at(ctx, network.size)[count : count + len(ctx.pool)]
        gray = ctx.data.audit.channels == "gray"
        lesson = Lesson(pixels, gray, progress=ctx.progress, tell=ctx.tell)
        start = starting_backbone(ctx, derive(ctx.config.seed, NAME) % 2**31)
        shape = from_backbone(start, nn.Identity(), network.size)
        batch = planner.batch(network)
        method = planner.method(network, batch, token_info(shape) is not None)
        settings = planner.settings(network, method, batch, _TIMED)
        return cls(planner, lesson, PretrainPlan(network, method, settings, planner.flips(), 0.0), start)

    def loop(self, steps: int = _TIMED, place: Place | None = None) -> Loop:
        """Return the loop of so many steps."""
        plan = self.plan
        batch = plan.settings.unlabeled_batch
        settings = self.planner.settings(plan.network, plan.method, batch, steps)
        return self.lesson.loop(self.start, replace(plan, settings=settings), place, f"{NAME}: steps")


@dataclass(frozen=True)
class Learned:
    """What was learned from the pool alone.

    Attributes:
        backbone: The network.
        record: How it was trained, and what that showed.
    """

    backbone: Backbone
    record: JsonObject


def learning(plan: NetworkPlan) -> NetworkPlan:
    """Return the network with something in it that can learn without a head."""
    return plan if plan.trainable in ("all", "last") else replace(plan, trainable="last")


def learned_from_pool(ctx: RungContext, steps: int) -> Learned:
    """Return the network that has learned from the pool, trained once a run and kept for a run that goes on.

    Args:
        ctx: The pool; ``ctx.shared`` is where network and checkpoint are kept.
        steps: Planned number of steps; ``ctx.stop`` may end them sooner.

    Raises:
        Diverged: Training broke down.
    """
    key = ("run", "learned from the pool")
    if key not in ctx.scratch:
        ctx.scratch[key] = _recalled(ctx) or _learned(ctx, steps)
    found: Learned = ctx.scratch[key]
    return found


def _learned(ctx: RungContext, steps: int) -> Learned:
    made, run = PoolLesson.of(ctx), ctx.folder
    tracked = None if run is None else run / "trackers"
    place = None if ctx.shared is None else Place(ctx.shared, NAME, ctx.config.log.trackers, tracked)
    loop = made.loop(steps, place)
    outcome = loop.run(ctx.stop)
    assert isinstance(outcome.network, Network)
    backbone = ctx.bank.register(to_backbone(outcome.network, f"{NAME}/{made.start.architecture}"))
    learned = Learned(backbone, _record(made, loop, outcome))
    if ctx.shared is not None:
        _keep(ctx.shared, learned)
    return learned


def _record(made: PoolLesson, loop: Loop, outcome: Outcome) -> JsonObject:
    figures: JsonObject = {name: round(value, 4) for name, value in outcome.figures.items()}
    if outcome.findings:
        figures["findings"] = [found.sentence for found in outcome.findings]
    settings: JsonObject = {**loop.settings.to_json(), "done": outcome.steps}
    why = made.planner.decisions.get("method")
    return {
        "method": made.plan.method,
        "why": "" if why is None else why.rule,
        "images": len(made.lesson.pixels),
        "settings": settings,
        "figures": figures,
    }


def _keep(folder: Path, learned: Learned) -> None:
    """Keep the network; the record is written last and says that it is whole."""
    state = learned.backbone.module.state_dict().items()
    tensors = {name: np.ascontiguousarray(tensor.detach().cpu().numpy()) for name, tensor in state}
    write_bytes(folder / _WEIGHTS, save(tensors))
    write_json(folder / _RECORD, learned.record)


def _recalled(ctx: RungContext) -> Learned | None:
    """Return the network that a run which goes on had trained, or None."""
    if ctx.shared is None or not (ctx.shared / _RECORD).is_file():
        return None
    made = PoolLesson.of(ctx)
    like, start = made.start.module.state_dict(), made.start
    arrays = load_file(ctx.shared / _WEIGHTS)
    backbone = rebuild_backbone(
        f"{NAME}/{start.architecture}",
        {name: torch.from_numpy(array).reshape(like[name].shape) for name, array in arrays.items()},
        architecture=start.architecture,
        size=made.plan.network.size,
        mean=start.mean,
        std=start.std,
        origin=f"'{ctx.shared}'",
        own=ctx.bank.own,
    )
    return Learned(ctx.bank.register(backbone), read_json(ctx.shared / _RECORD))
