"""From a source to what the cheap rungs look at, for verbs that climb no ladder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fallow.config.forecast import FrozenConfig
from fallow.data import Source, audit, cache_dir
from fallow.data.audit import Audit
from fallow.record import DecisionLog
from fallow.study.bank import SpaceBank
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.data import StudyData
from fallow.study.plan import part_of_pool, plan_spaces, without_weights
from fallow.tasks import classification_task
from fallow.types import Progress, silent


def frozen_context(
    source: Source,
    config: FrozenConfig,
    clock: Clock,
    *,
    check: Callable[[Audit], None],
    tell: Callable[[str], None],
    progress: Progress = silent,
) -> RungContext:
    """Read, audit and plan what is embedded, and return what a cheap rung may look at.

    Labels of a validation split are labels like all others here, and the test split is left alone: it is neither embedded
    nor looked at.

    Args:
        source: Where images come from.
        config: What was asked for.
        clock: The budget: it bounds how much of the pool takes part.
        check: Raises a `DataError` where the audit found too little.
        tell: Takes what a person should know.
        progress: Who watches.
    """
    bank = SpaceBank(config.embed, cache_dir(), config.offline, progress=progress)
    bank.named()
    found = audit(source, progress=progress)
    check(found)
    decisions = DecisionLog()
    for decision in found.decisions:
        decisions.add(decision)
    made = StudyData.build(found, config.seed, decisions)
    data = replace(made, in_validation=np.zeros(len(made.y), bool), test_ids=())
    plan = plan_spaces(data, bank, clock, decisions, config.seed)
    if poor := without_weights(plan, bank):
        tell(poor)
    whole = len(data.pool_ids)
    if plan.pool < whole:
        tell(f"{plan.pool:,} of the {whole:,} unlabeled images took part: the budget allowed no more.")
        data = part_of_pool(data, plan, config.seed)
    task = classification_task(data.classes)
    return RungContext(
        data, task, bank, config.of_rungs, decisions, clock, plan, progress=progress, tell=tell
    )
