"""What a budget holds, by a measured step: what of the network changes, how many images a step, and how many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from fallow.engine import time_steps
from fallow.models import Backbone
from fallow.study.memory import memory_enough
from fallow.study.pretraining.fit import Lesson
from fallow.study.pretraining.plan import Planner, PretrainPlan
from fallow.types import Json

_ENOUGH_PASSES, _MOST_PASSES = 20, 1000
"""Passes over the images that make changing the whole of a pretrained network worth it, and more than which teach little more."""
_FEW_STEPS, _LEAST_BATCH = 20, 16
"""A budget that holds fewer steps than this gets smaller ones, of no fewer images than a norm over a batch can do with."""
_SLOWER = 1.05
"""How much longer than measured steps take."""


@dataclass(frozen=True)
class Pace:
    """Measures a step and makes the decisions that depend on it.

    Attributes:
        planner: Where decisions are written down.
        start: The network that learning starts from.
        lesson: What is learned.
        left: Says how many seconds the steps may take.
        tell: Takes a sentence that a person should read.
    """

    planner: Planner
    start: Backbone
    lesson: Lesson
    left: Callable[[], float]
    tell: Callable[[str], None]

    def settle(self, plan: PretrainPlan) -> PretrainPlan:
        """Return the plan with all that a clock decides."""
        plan = self._with_fewer_images(plan)
        plan, step = self._with_parts(plan)
        steps = self._steps(plan, step)
        settings = self.planner.settings(plan.network, plan.method, plan.settings.unlabeled_batch, steps)
        self.planner.tell_settings(settings, plan.method)
        plan = replace(plan, settings=settings)
        settled = self.lesson.settled(self.start, plan)
        for name, (value, rule) in settled.items():
            self.planner.decide(f"options.{name}", value, rule, False)
        options: dict[str, Json] = {name: value for name, (value, _) in settled.items()}
        return replace(plan, options=options, seconds=max(self.left(), steps * step))

    def _seconds(self, plan: PretrainPlan, trainable: Literal["last", "all"]) -> float:
        """Return what a step takes."""
        own = replace(plan, network=replace(plan.network, trainable=trainable))
        with memory_enough():
            return time_steps(self.lesson.loop(self.start, own), 1)

    def _first_parts(self, plan: PretrainPlan) -> Literal["last", "all"]:
        """Return what changes of the network as far as no clock is needed: what was asked for, else what costs least."""
        asked = self.planner.config.network.trainable
        if asked != "auto":
            return asked
        return "all" if plan.network.scratch else "last"

    def _with_fewer_images(self, plan: PretrainPlan) -> PretrainPlan:
        """Return the plan with fewer images a step, where the budget would hold next to no steps; a small step is measured for it."""
        asked, batch = self.planner.config.optimization, plan.settings.unlabeled_batch
        if asked.batch_size != "auto" or asked.steps != "auto" or batch <= _LEAST_BATCH:
            return plan
        small = replace(plan, settings=replace(plan.settings, unlabeled_batch=_LEAST_BATCH))
        each = self._seconds(small, self._first_parts(plan)) / _LEAST_BATCH
        holds = int(self.left() / (_FEW_STEPS * _SLOWER * each))
        if holds >= batch:
            return plan
        fewer = max(_LEAST_BATCH, holds)
        rule = f"Fewer than {batch}, as the budget does not hold {_FEW_STEPS} steps of so many; {_LEAST_BATCH} at least."
        self.planner.decide("optimization.batch_size", fewer, rule, False, seconds_an_image=round(each, 4))
        return replace(plan, settings=replace(plan.settings, unlabeled_batch=fewer))

    def _with_parts(self, plan: PretrainPlan) -> tuple[PretrainPlan, float]:
        """Return the plan with what changes of the network, and the seconds of a step."""
        parts = self._first_parts(plan)
        asked = self.planner.config.network.trainable
        step = self._seconds(plan, parts)
        if asked != "auto":
            why = "Asked for."
        elif plan.network.scratch:
            why = "Random weights have nothing worth keeping."
        else:
            why = (
                f"The last blocks: the budget holds fewer than {_ENOUGH_PASSES} passes of the whole network."
            )
            enough = max(self._steps_for(_ENOUGH_PASSES, plan), _FEW_STEPS)
            # What comes before the last blocks costs as much as they do, at least.
            if 2 * step * enough < self.left():
                whole = self._seconds(plan, "all")
                if whole * enough < self.left():
                    parts, step = "all", whole
                    why = f"The budget holds {_ENOUGH_PASSES} passes or more of the whole network."
        self.planner.decide("network.trainable", parts, why, asked != "auto", seconds_a_step=round(step, 4))
        return replace(plan, network=replace(plan.network, trainable=parts)), step

    def _steps(self, plan: PretrainPlan, step: float) -> int:
        """Return how many steps are taken, of so many seconds each."""
        asked = self.planner.config
        if isinstance(asked.optimization.steps, int):
            self.planner.decide("optimization.steps", asked.optimization.steps, "Asked for.", True)
            return asked.optimization.steps
        left, batch = self.left(), plan.settings.unlabeled_batch
        fits = int(left / (step * _SLOWER))
        steps = max(1, min(fits, self._steps_for(_MOST_PASSES, plan)))
        self.planner.decide(
            "optimization.steps",
            steps,
            f"As many as the budget holds, {_MOST_PASSES:,} passes over the images at most.",
            False,
            seconds_a_step=round(step, 4),
            seconds_left=round(left, 1),
            passes=round(steps * batch / len(self.lesson.pixels), 1),
        )
        if fits < _FEW_STEPS:
            self.tell(
                f"The budget of {asked.budget} holds {steps} step{'s' * (steps != 1)} of {batch} images, which teach next to "
                "nothing: give it more time (--budget), or a smaller network or size (--backbone, --size)."
            )
        return steps

    def _steps_for(self, passes: int, plan: PretrainPlan) -> int:
        """Return the steps in which each image is seen so often."""
        return max(1, round(passes * len(self.lesson.pixels) / plan.settings.unlabeled_batch))
