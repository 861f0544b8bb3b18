"""Full fine-tuning on a part of the labels: how good a start is the network, and not only its features?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fallow.config import EmbedConfig, NetworkConfig, OptimizationConfig, TrainConfig
from fallow.data import ImageReader, cache_dir
from fallow.errors import ConfigError
from fallow.models import PIXELS
from fallow.models.backbones import UNTRAINED
from fallow.record import DecisionLog
from fallow.study.bank import SpaceBank
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.data import StudyData
from fallow.study.plan import SpacePlan
from fallow.study.probing.data import ProbedData
from fallow.study.probing.deal import Positions
from fallow.study.probing.scores import Scores, correctness
from fallow.study.probing.subject import Subject
from fallow.study.rungs.finetune import FinetuneRung
from fallow.study.rungs.trained import TrainedRung
from fallow.study.trained.network import NetworkPlan
from fallow.study.trained.recipe import default_lr
from fallow.tasks import classification_task
from fallow.types import Progress

SHARES = (0.01, 0.05, 0.1, 1.0)
"""Parts of the labels, as tables of the field have them."""
_NO_LIMIT = 1e9


def finetune(subject: Subject, data: ProbedData, steps: int, progress: Progress) -> list[Scores]:
    """Train the whole network on 1, 5, 10 and 100 % of the labels, once each, under the noise of the fine-tuning rung.

    Without a test split one fold is held out. A larger part holds the smaller ones; one label of each class at least is in
    each, and parts that are the same are trained on once.

    Args:
        subject: One network.
        data: Labeled images.
        steps: Steps of each fit.
        progress: Who watches.

    Raises:
        ConfigError: There is nothing to train, or there are several networks.
    """
    if len(subject.parts) > 1 or subject.parts[0].backbone.name == PIXELS:
        raise ConfigError(
            f"'{subject.name}' is not one network that could be trained further: leave finetune out of --probe, or name a "
            "network"
        )
    deal, made = data.deal, []
    held = deal.rounds[0][0]
    drawn: dict[int, tuple[float, Positions]] = {}
    for share in SHARES:
        rest = part_of(data, share)
        drawn.setdefault(len(rest), (share, rest))
    for share, rest in drawn.values():
        named = _named(subject, data, rest, held, steps, share, progress)
        parts = [(0, held, (named == deal.y[held]).astype(np.float64))]
        title = f"fine-tuned on {100 * share:g} % of the labels"
        detail = f"{steps:,} steps on {len(rest):,} labels, {len(held):,} judged"
        made.append(correctness(f"finetune@{100 * share:g}", title, parts, len(deal.y), len(rest), detail))
    return made


def part_of(data: ProbedData, share: float) -> Positions:
    """Return the positions of a part of the labels, sorted: so large a share of each class, one image at least."""
    deal = data.deal
    rest = deal.rest(deal.rounds[0][0])
    rng, found = np.random.default_rng([deal.seed, 16]), []
    for c in range(deal.classes):
        mine = rng.permutation(rest[deal.y[rest] == c])
        found.append(mine[: max(1, round(share * len(mine)))])
    return np.sort(np.concatenate(found))


def _named(
    subject: Subject,
    data: ProbedData,
    rest: Positions,
    held: Positions,
    steps: int,
    share: float,
    progress: Progress,
) -> NDArray[np.int64]:
    """Train on some images and return the classes that others are taken for."""
    ctx = _context(
        subject, data, rest, lambda what, done, total: progress(f"{100 * share:g} %, {what}", done, total)
    )
    # Nothing is searched: every backbone is trained by the same recipe.
    made = TrainedRung.fit(FinetuneRung(), ctx, None, {}, steps)
    return made.probs(ctx.data.images(tuple(data.ids[i] for i in held)), "judged images").argmax(1)


def _context(subject: Subject, data: ProbedData, rest: Positions, progress: Progress) -> RungContext:
    part, audit, deal = subject.parts[0], data.audit, data.deal
    seen = StudyData(
        audit=audit,
        table=audit.table,
        reader=ImageReader(audit.source, audit.table, audit.scale),
        classes=data.classes,
        labeled_ids=tuple(data.ids[i] for i in rest),
        y=deal.y[rest],
        in_validation=np.zeros(len(rest), bool),
        groups=tuple(deal.groups_of(rest)),
        pool_ids=(),
        test_ids=(),
    )
    own = replace(part.backbone, default_size=part.size) if not part.backbone.fixed_size else part.backbone
    bank = SpaceBank(EmbedConfig(), cache_dir(), own=own, progress=progress)
    start = NetworkPlan(own.name, part.size, scratch=own.note == UNTRAINED, trainable="all")
    config = TrainConfig(
        seed=deal.seed,
        rungs="finetune",
        network=NetworkConfig(trainable="all", size=max(part.size, 8)),
        optimization=OptimizationConfig(lr=default_lr(start)),
    )
    return RungContext(
        seen,
        classification_task(data.classes),
        bank,
        config,
        DecisionLog(),
        Clock(_NO_LIMIT),
        SpacePlan((own.name,), (part.size,), ("none",), 0),
        progress=progress,
    )
