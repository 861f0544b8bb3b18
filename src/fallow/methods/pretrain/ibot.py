"""iBOT: DINO, and hidden parts of an image say what a slow average, which sees them, says of them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext
from fallow.methods.pretrain.dino import DINO, across_views
from fallow.methods.pretrain.masks import blocks_for
from fallow.methods.pretrain.parts import float32


class IBOT(DINO):
    """Minimize DINO's cross-entropy between crops, and that between a crop's hidden parts and the same parts as the teacher sees them.

    Zhou et al. 2021, arXiv 2111.07832, eq. 2 and 3: the student sees a learned token in place of the hidden parts of large crops, the
    teacher sees the whole crop; one head speaks of crops and of parts, each with a center of its own, and both terms weigh the
    same. The mean over parts is taken image by image; an image that is shown whole has none.

    Args:
        hidden_share: Mean share of the parts that is hidden, where any is: in half of the images.
        hidden_spread: The share is drawn up to so much below and above.
        options: Those of DINO; prototypes: 8,192 at most; local_crops: 10.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="ibot",
        title="dino, and hidden parts of an image say what a slow average says of them",
        family="pretrain",
        paper="Zhou et al. 2021, arXiv 2111.07832",
        needs=("unlabeled", "vision transformer"),
        suits="pretrained vision transformers, or long runs, where parts of an image matter too, as in scenes with several things",
        cost=6.0,
    )
    needs_tokens = True
    papers_crops = 10
    papers_prototypes = 8192

    part_center: Tensor

    def __init__(self, *, hidden_share: float = 0.3, hidden_spread: float = 0.2, **options: Any) -> None:
        super().__init__(**options)
        self.shares = (hidden_share - hidden_spread, hidden_share + hidden_spread)

    def make(self, dim: int) -> None:
        """Make the head, the centers and what stands in for hidden parts."""
        super().make(dim)
        assert self.tokens is not None
        self.stand_in = nn.Parameter(torch.zeros(self.tokens.dim))
        self.register_buffer("part_center", torch.zeros_like(self.center))

    def hide(self, batch: Batch, ctx: PretrainContext) -> Tensor:
        """Return which parts of the first and of the second large crops are hidden, bool (2 n, parts)."""
        assert self.tokens is not None
        grid = self.tokens.grid
        return torch.cat([blocks_for(batch.index, view, ctx.step, grid, self.shares) for view in (0, 1)])

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the sum of both terms."""
        assert self.tokens is not None
        large, prefix, moving = torch.cat(batch.unlabeled[:2]), self.tokens.prefix, self.epoch(ctx.step) > 0
        hidden = self.hide(batch, ctx)
        said, of_parts = self._said(large, ctx)
        targets = self.targets(said, self.center, ctx).chunk(2)
        part_targets = self.targets(of_parts[hidden], self.part_center, ctx)
        seen = ctx.tokens(large, hidden=hidden, stand_in=self.stand_in)
        features = [*ctx.pooled(seen).chunk(2), *ctx.features(*batch.unlabeled[2:])]
        answers = self.projector(torch.cat(features), moving)
        of_hidden = self.projector(seen[:, prefix:][hidden], moving)
        with float32(answers):
            answers = (answers.float() / self.temperature).split([len(x) for x in features])
            between = across_views(targets, answers)
            terms = -(part_targets * log_softmax(of_hidden.float() / self.temperature, dim=1)).sum(1)
            each = (1 / hidden.sum(1).clamp_min(1)).repeat_interleave(hidden.sum(1))
            within = (terms * each).sum() / len(large)
        self.recenter(self.center, said, ctx)
        self.recenter(self.part_center, of_parts.flatten(0, 1), ctx)
        health = {
            "chance_loss": math.log(said.shape[1]) * (1 + hidden.any(1).float().mean()),
            "embeddings": features[0].detach(),
            "partners": features[1].detach(),
            "features": features[0].detach(),
            "target_entropy": -(targets[0] * (targets[0] + 1e-12).log()).sum(1).mean(),
        }
        logs = {"crops_loss": between.detach(), "parts_loss": within.detach()}
        return Step(between + within, logs, health)

    @torch.no_grad()
    def _said(self, large: Tensor, ctx: PretrainContext) -> tuple[Tensor, Tensor]:
        """Return what the teacher says of crops, (n, count), and of all of their parts, (n, parts, count), in float32."""
        assert self.tokens is not None
        head, shown = ctx.teacher_method().projector, ctx.tokens(large, of_teacher=True)
        parts = shown[:, self.tokens.prefix :]
        of_parts = head(parts.flatten(0, 1)).float().unflatten(0, parts.shape[:2])
        return head(ctx.pooled(shown, of_teacher=True)).float(), of_parts
