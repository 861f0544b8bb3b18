"""ABC: an auxiliary classifier that sees all classes equally often, beside any other joint method."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fallow.methods.base import Batch, JointMethod, MethodInfo, Step, StepContext, global_mean
from fallow.methods.joint.consistency import trusted
from fallow.methods.joint.targets import of_decision
from fallow.tasks import FeatureInfo, Posteriors


class Balanced(JointMethod):
    """ABC (Lee et al. 2021, arXiv 2110.10368, eq. 1 to 5): a second head on the features of any joint method.

    A labeled unit trains this head with probability (count of the rarest class) / (count of its class), an unlabeled
    one by the class the head itself decides for, if it is sure of it; for these the probability falls from 1 to the
    same ratio over the run. The class counts are those of the labels seen so far. Predictions are this head's. Its
    own targets come from the weak views through the student's backbone, a further pass without gradient. The strong
    view counts once, where the paper has two of them.

    Args:
        inner: The method that trains the backbone and its own head.
        balanced_threshold: Confidence from which an unlabeled unit counts.
        balanced_weight: Weight of this head's losses, which reach the backbone too.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="+abc",
        title="a second head that sees all classes equally often, beside any joint method (softmatch+abc)",
        family="joint",
        paper="Lee et al. 2021, arXiv 2110.10368",
        needs=("labels", "unlabeled"),
        suits="classes of very unequal size, where each counts the same; costs accuracy on the frequent ones",
        cost=1.9,
    )
    counts: Tensor

    def __init__(
        self, inner: JointMethod, *, balanced_threshold: float = 0.95, balanced_weight: float = 1.0
    ) -> None:
        super().__init__(inner.task)
        self.inner, self.follows, self.views = inner, inner.follows, inner.views
        self.balanced_threshold, self.balanced_weight = balanced_threshold, balanced_weight
        self.head: nn.Module | None = None
        # Labels of each class, and units that could have had it: all others are its noes, where that is a decision.
        self.register_buffer("counts", torch.zeros(2, len(inner.task.classes)))

    def build(self, feature_info: FeatureInfo, n_images: int, n_classes: int, total_steps: int) -> None:
        """Make the second head."""
        self.inner.build(feature_info, n_images, n_classes, total_steps)
        self.head = self.task.head(feature_info)

    def prediction_head(self) -> nn.Module | None:
        """Return the balanced head."""
        return self.head

    def step(self, batch: Batch, ctx: StepContext) -> Step:
        """Return the inner method's loss and the balanced head's two."""
        tapped = Tapped(ctx)
        inner = self.inner.step(batch, tapped)
        labeled, strong = tapped.seen
        known = self.task.labels(batch.targets)
        rates = self.count(known, ctx)
        supervised = self.supervised(labeled, batch, of_decision(rates, known), ctx)
        unsupervised, used = self.unsupervised(strong, batch, rates, ctx)
        loss = inner.loss + self.balanced_weight * (supervised + unsupervised)
        logs = {"balanced_supervised_loss": supervised, "balanced_unsupervised_loss": unsupervised}
        return Step(
            loss,
            {**inner.logs, **{name: part.detach() for name, part in logs.items()}},
            {**inner.health, "balanced_utilization": used},
        )

    @torch.no_grad()
    def count(self, known: Posteriors, ctx: StepContext) -> Tensor:
        """Count labels in and return the rate at which each outcome is used, (problems, outcomes)."""
        said = known.probs.sum(0)
        self.counts += ctx.reduce(torch.stack([said, torch.full_like(said, len(known.probs))]))
        counts, units = self.counts
        return balanced_rates(torch.stack([units - counts, counts], 1) if known.independent else counts[None])

    def supervised(self, features: Any, batch: Batch, rate: Tensor, ctx: StepContext) -> Tensor:
        """Return the loss of labeled units, drawn so that classes count equally (eq. 1 and 2)."""
        assert self.head is not None, "build() comes first"
        losses = self.task.losses(self.head(features), batch.targets)
        return global_mean(losses, drawn(rate), ctx)

    def unsupervised(
        self, features: Any, batch: Batch, rates: Tensor, ctx: StepContext
    ) -> tuple[Tensor, Tensor]:
        """Return the divergence of strong views from what this head says of weak ones, and how many counted."""
        assert self.head is not None, "build() comes first"
        weak_view, strong_view = batch.unlabeled_views
        with torch.no_grad():
            (weak,) = ctx.features(batch.unlabeled[0])
            said = self.task.posteriors(self.head(weak), weak_view).warp(weak_view, strong_view)
        rate = 1 - (ctx.step / max(ctx.total_steps, 1)) * (1 - of_decision(rates, said))
        weight = drawn(rate) * (said.score >= self.balanced_threshold) * trusted(said, batch)
        apart = self.task.divergence(self.head(features), said, "ce")
        return global_mean(apart, weight, ctx), weight.mean()

    def after_step(self, ctx: StepContext) -> None:
        """Let the inner method update what it keeps."""
        self.inner.after_step(ctx)


def balanced_rates(counts: Tensor) -> Tensor:
    """Return (smallest count) / (count) of each row's outcomes; 1 for those never seen."""
    seen = counts > 0
    least = torch.where(seen, counts, torch.inf).amin(1, keepdim=True)
    return torch.where(seen, least / counts.clamp_min(1e-8), 1.0)


def drawn(rate: Tensor) -> Tensor:
    """Return 1 with probability ``rate``, else 0."""
    return (torch.rand_like(rate) < rate).to(rate.dtype)


class Tapped:
    """A loop that keeps the student's features, so that a second head can read them without a second pass."""

    def __init__(self, ctx: StepContext) -> None:
        self.step, self.total_steps, self.world_size = ctx.step, ctx.total_steps, ctx.world_size
        self._ctx = ctx
        self.teacher, self.head, self.reduce, self.gather = ctx.teacher, ctx.head, ctx.reduce, ctx.gather
        self.seen: tuple[Any, ...] = ()

    def features(self, *images: Tensor) -> tuple[Any, ...]:
        """Run the student's backbone and keep what it says."""
        self.seen = self._ctx.features(*images)
        return self.seen

    def model(self, *images: Tensor) -> tuple[Any, ...]:
        """Run backbone and head of the student."""
        return tuple(self.head(found) for found in self.features(*images))
