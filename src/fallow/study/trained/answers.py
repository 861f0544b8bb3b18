"""What trained networks take to answer: beside the steps of a fit, and once all rungs are climbed."""

from __future__ import annotations

import numpy as np

from fallow.engine import LoopSettings
from fallow.methods import JointMethod
from fallow.models import Embedder, Network, to_backbone, view_indices
from fallow.study.context import RungContext
from fallow.study.spaces import spaces_of
from fallow.study.trained.fit import Fit

_TIMED = 32
_SECONDS = 0.3
_FORWARD = 1 / 3
"""Share of a step that its forward passes take: the way back takes twice as long."""


def answer_seconds(ctx: RungContext, fit: Fit, network: Network) -> float:
    """Return what a network takes for an image, from the file to its features; measured once a run.

    It is neither what embedding took, which is kept from run to run and is another network's, nor what a step takes, whose
    images lie in memory at their size.
    """
    key = ("run", "answer seconds")
    if key not in ctx.scratch:
        backbone = to_backbone(network, f"measured/{network.like.architecture}")
        embedder = Embedder(backbone, fit.plan.size, cache=ctx.bank.cache, eager=True)
        images = ctx.data.images((*ctx.data.labeled_ids, *ctx.data.pool_ids))
        some = np.linspace(0, len(images) - 1, min(_TIMED, len(images))).astype(int)
        views = "none" if fit.plan.scratch else spaces_of(ctx, None)[0].views
        parts = (
            1 / embedder.reading_rate(images.read, [images.ids[i] for i in some]),
            len(view_indices(views)) / embedder.rate(seconds=_SECONDS),
        )
        ctx.scratch[key] = max(parts) if embedder.reading_overlaps else sum(parts)
    seconds: float = ctx.scratch[key]
    return seconds


def pool_seconds(
    fit: Fit, network: Network, method: JointMethod, settings: LoopSettings, image: float, step: float
) -> float:
    """Return what a network takes to answer for the whole pool: through its maps where it has some.

    Args:
        fit: The pool.
        network: Any network of the run: what they share is kept.
        method: Its views are what a step looks at.
        settings: Sizes of the batches.
        image: What an image takes.
        step: What a step takes.
    """
    bank = fit.bank(network)
    if bank is None:
        return len(fit.ctx.pool) * image
    seen = settings.batch_size * len(method.views.labeled)
    seen += settings.unlabeled_batch * len(method.views.unlabeled)
    return bank.plan.pool * bank.plan.count("weak", False) * _FORWARD * step / max(seen, 1)
