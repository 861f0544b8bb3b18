"""How long a student learns: what the budget holds beside asking the teacher, writing the model and measuring it."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.config import DistillConfig
from fallow.data import cores
from fallow.errors import ConfigError
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.distilling.learn import StudentRung
from fallow.study.distilling.student import Student
from fallow.study.effort import SLOWER

LESSON = "distill"
"""What the lesson is called among the facts that a replay follows."""
CALIBRATION = 100
"""Images that tell the range of activations for 8 bits."""
_EXPORT_SECONDS = 8.0


@dataclass(frozen=True)
class Plan:
    """How long the student learns: settled before it began, so that a run that goes on does the same.

    Attributes:
        steps: Steps it takes.
        cut: Step at which the clock ended it; None where it did not.
        seconds: How long that was to take; None where the steps were asked for, and the clock ends nothing.
    """

    steps: int
    cut: int | None = None
    seconds: float | None = None


def check_time(config: DistillConfig, clock: Clock, asked: int, teacher_ms: float, after: float) -> None:
    """Make sure that there will be time to learn in, before the teacher is asked about everything.

    Args:
        config: What was asked for.
        clock: The budget.
        asked: Images that the teacher is asked about.
        teacher_ms: What it takes for one.
        after: Seconds for what comes after learning.

    Raises:
        ConfigError: There will be none, and no number of steps was asked for.
    """
    answers = asked * teacher_ms / 1000 / cores()  # at least: several are asked about at a time
    if isinstance(config.optimization.steps, int) or clock.left > answers + after:
        return
    raise ConfigError(
        f"the budget of {config.budget} leaves nothing to learn in: {clock.elapsed:.0f} s have passed, the teacher takes "
        f"{answers:.0f} s or more for {asked:,} images, and writing and measuring the student {after:.0f} s: give a longer --budget"
    )


def reserve(config: DistillConfig, student: Student, images: int, teacher_ms: float) -> float:
    """Return the seconds that export and measuring on so many images will take."""
    each = teacher_ms + student.latency_ms * (1 if config.no_int8 else 2)
    quantizing = 0.0 if config.no_int8 else CALIBRATION * 3 * student.latency_ms
    return _EXPORT_SECONDS + (images * each + quantizing) / 1000


def lesson_plan(config: DistillConfig, ctx: RungContext, rung: StudentRung, left: float) -> Plan:
    """Return how many steps the student takes, as a decision.

    Args:
        config: What was asked for.
        ctx: Data, decisions, and what a replay follows.
        rung: The lesson.
        left: Seconds that there are for it.

    Raises:
        ConfigError: The fewest steps that make sense do not fit.
    """
    asked = config.optimization.steps
    if isinstance(asked, int):
        ctx.decide("optimization.steps", asked, "Asked for.", pinned=True)
        before = ctx.config.replay
        # The step at which the clock ended a lesson is of that lesson: another number of steps is another one.
        return Plan(asked, before.cuts.get(LESSON) if before.steps.get(LESSON) == asked else None)
    cost, seconds = rung.estimate(ctx), left / SLOWER
    most = rung.most_steps(ctx)
    steps = rung.planned(cost, seconds, most)
    if not steps:
        least = rung.workload.least * cost.seconds + cost.once
        raise ConfigError(
            f"the budget of {config.budget} leaves {max(seconds, 0.0):.0f} s to learn, and {rung.workload.least} "
            f"steps take {least:.0f} s: give a longer --budget"
        )
    rule = "As many as the budget holds, until each image was seen often enough."
    evidence = {"seconds_a_step": round(cost.seconds, 4), "seconds_left": round(seconds, 1), "most": most}
    ctx.decide("optimization.steps", steps, rule, evidence=dict(evidence))
    return Plan(steps, seconds=round(SLOWER * (steps * cost.seconds + cost.once), 1))
