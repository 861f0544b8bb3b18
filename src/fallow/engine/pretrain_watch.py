"""Does it learn from images alone? No label says so: the loss against chance, the vectors and the weights do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fallow.engine.growth import RATE
from fallow.engine.health import Finding, Watch
from fallow.engine.representation import alignment, direction_spread, effective_rank, uniformity
from fallow.methods import Batch, Step

_EARLY, _LATE = 0.02, 0.25
"""Shares of the run from which a check speaks: failures that need no patience, and those that do."""
_LASTS = 0.05
"""A finding that leaves no hope and has stood for this share of the run ends it."""
_SPREAD, _RANK = 0.1, 1.5
"""Below these, unit vectors of different images have (almost) one direction, or lie on a line."""
_LEFT, _CLOSE = 0.15, -1.0
"""Embeddings with less than this share of the directions that they had, and this near to each other, are on the way there."""
_FALLEN = 0.25
"""The features have lost directions when their rank is this share of the highest so far."""
_CHANCE, _LATER = 0.01, 0.5
"""How near to chance a loss is that has learned nothing. Methods with prototypes stay there for a while before they begin, so that
only from half of the run on it leaves no hope."""
_GROWN_LOSS = 0.3
_SAME = 1e-4
_SMALLEST = 5
_HOPELESS = frozenset({"identical views", "collapse", "wrong axis", "rate", "chance"})

_VECTORS = ("embeddings", "partners", "features")


class PretrainWatch(Watch):
    """Sees every step of a pretraining method, and looks at loss, vectors and weights now and then.

    Args:
        steps: Steps planned.
        module: What is trained: its weights are watched.
        chance_is_final: Whether a loss at its chance value after half of the run ends it.
        directions: Whether the method compares directions, so that all embeddings pointing one way is collapse.
        tell: Told each finding when it is first seen, in a sentence.
    """

    def __init__(
        self,
        steps: int,
        module: nn.Module,
        *,
        directions: bool = True,
        chance_is_final: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(steps, tell=tell, module=module)
        self._directions, self._chance_is_final = directions, chance_is_final
        self._vectors: dict[str, Tensor] = {}
        self._images: list[Tensor] = []
        self._chance: float | None = None
        self._apart: float | None = None
        self._best_rank, self._best_embedding_rank, self._last = 0.0, 0.0, 0
        self._figures: dict[str, float] = {}
        self._since: dict[str, int] = {}

    @property
    def hopeless(self) -> bool:
        """Whether something stands, and has stood for a while, that no further step will mend."""
        patience = max(_LASTS * self.steps, _SMALLEST)
        lasting = {kind for kind, first in self._since.items() if self._last - first >= patience}
        if not self._chance_is_final or self._last < _LATER * self.steps:
            lasting.discard("chance")
        return bool(lasting & _HOPELESS)

    def see_batch(self, step: int, made: Step, batch: Batch) -> dict[str, float] | None:
        """Take the figures of a step and of its images; return them when they were looked at.

        Raises:
            Diverged: A loss is not finite; the first such step and its images are named.
        """
        self._images.append(batch.index)
        looks = not ((step + 1) % self.every and step + 1 < self.steps)
        if looks:
            self._vectors = {k: made.health[k] for k in _VECTORS if isinstance(made.health.get(k), Tensor)}  # type: ignore[misc]
            self._apart = _views_apart(batch)
        return self.see(step, made)

    def state(self) -> dict[str, Any]:
        """Return what was seen, as JSON."""
        own = {
            "chance": self._chance,
            "best_ranks": [self._best_rank, self._best_embedding_rank],
            "since": self._since,
            "last": self._last,
            "images": [index.tolist() for index in self._images],
        }
        return {**super().state(), "pretrain": own}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().restore(state)
        own = state["pretrain"]
        self._chance = own["chance"]
        self._best_rank, self._best_embedding_rank = own["best_ranks"]
        self._since, self._last = dict(own["since"]), own["last"]
        self._images = [torch.tensor(index) for index in own["images"]]

    def _look(self, step: int) -> dict[str, float]:
        chances = [figures["chance_loss"] for figures in self._pending if "chance_loss" in figures]
        self._chance = float(torch.stack(chances).mean()) if chances else None
        self._last, self._figures = step, self._measure_vectors()
        figures = super()._look(step)
        self._images.clear()
        self._since = {kind: self._since.get(kind, step) for kind in self.findings}
        return {**figures, **self._figures}

    def _where(self, offset: int) -> str:
        shown = self._images[offset].tolist()
        if not shown:  # labeled images alone are learned from
            return ""
        return f" (images {', '.join(map(str, shown[:5]))}{' ...' if len(shown) > 5 else ''} of the pool)"

    def _measure_vectors(self) -> dict[str, float]:
        found, seen = dict[str, float](), self._vectors
        if "features" in seen:
            found["rank"] = effective_rank(seen["features"])
            self._best_rank = max(self._best_rank, found["rank"])
        if "embeddings" in seen:
            found["embedding_rank"] = effective_rank(seen["embeddings"], centered=True)
            self._best_embedding_rank = max(self._best_embedding_rank, found["embedding_rank"])
            found["spread"] = direction_spread(seen["embeddings"])
            found["uniformity"] = uniformity(seen["embeddings"])
            if "partners" in seen:
                found["alignment"] = alignment(seen["embeddings"], seen["partners"])
        return found

    def _loss_checks(self, step: int, done: float) -> list[Finding]:
        loss, found = sum(self._losses) / len(self._losses), list[Finding]()
        if done < _EARLY or step < _SMALLEST:
            return found
        if done < 2 * _LASTS and (said := self.growth.sentence(step)):
            found.append(Finding("rate", step, said))
        chance = self._chance
        if chance is None:
            return found
        near = abs(loss - chance) / max(abs(chance), 1.0)
        if near < _CHANCE and done >= _LATE:
            cure = _TRY_ANOTHER if self._chance_is_final else _WAIT
            found.append(Finding("chance", step, _AT_CHANCE.format(loss, chance, cure)))
        if loss > max(chance, self._begun or chance) + _GROWN_LOSS * max(abs(chance), 1.0):
            found.append(
                Finding(
                    "growing",
                    step,
                    RATE.format(f"the loss is {loss:.2f}, above its chance value {chance:.2f}"),
                )
            )
        return found

    def _pool_checks(self, step: int, done: float) -> list[Finding]:
        found = []
        if self._apart is not None and self._apart < _SAME:
            found.append(Finding("identical views", step, _IDENTICAL))
        if done < _EARLY or step < _SMALLEST or not self._figures:
            return found
        seen, figures = self._vectors, self._figures
        if self._directions and "embeddings" in seen and _wrong_axis(seen["embeddings"]):
            found.append(Finding("wrong axis", step, _WRONG_AXIS))
        if self._collapsed(figures, done):
            found.append(
                Finding("collapse", step, _COLLAPSE.format(figures["spread"], figures["embedding_rank"]))
            )
        rank = figures.get("rank", math.inf)
        if done >= _LATE and rank < _FALLEN * self._best_rank:
            found.append(Finding("rank", step, _RANK_FALLS.format(self._best_rank, rank)))
        return found

    def _collapsed(self, figures: Mapping[str, float], done: float) -> bool:
        """Say whether the embeddings have fallen into a point or a line, or from the first steps on fall into one."""
        rank = figures.get("embedding_rank", math.inf)
        if rank < _RANK:
            return True
        if not self._directions or "spread" not in figures:
            return False
        falling = rank < _LEFT * self._best_embedding_rank and figures["uniformity"] > _CLOSE
        return (falling and done < 2 * _LASTS) or figures["spread"] < _SPREAD


_AT_CHANCE = (
    "the loss ({:.3f}) stays at its chance value {:.3f}, which a network has that tells no image from another: it is not "
    "learning, whatever else looks healthy; {}"
)
_TRY_ANOTHER = "try another learning rate (--set optimization.lr), a larger batch or another method"
_WAIT = (
    "methods that sort images to prototypes stay there for long before they begin: give it more steps (--budget), or take a method "
    "that begins at once (--method simclr)"
)
_IDENTICAL = (
    "the two views of each image are the same picture, so that there is nothing to learn from them: the augmentation is not "
    "applied, or it is drawn once for both views"
)
_WRONG_AXIS = (
    "the embeddings have length 1 over the images of a batch, and not image by image: they are normalized along the wrong axis "
    "(normalize(x, dim=1) is meant), and the loss stays near chance for ever"
)
_COLLAPSE = (
    "the embeddings of different images have become the same (spread {:.2f} of 1, effective rank {:.1f}): the method has "
    "collapsed; lower the learning rate, or take a method that cannot (--method vicreg or barlow_twins)"
)
_RANK_FALLS = (
    "the features had an effective rank of {:.0f} and have {:.0f} now: they lose directions and will be worth less; lower the "
    "learning rate, or end earlier"
)


@torch.no_grad()
def _views_apart(batch: Batch) -> float | None:
    """Return the mean difference of the pixels of two views; None: there are no two of one size."""
    views = batch.unlabeled or batch.labeled
    if len(views) < 2 or views[0].shape != views[1].shape or not len(views[0]):
        return None
    return float((views[0] - views[1]).abs().mean())


@torch.no_grad()
def _wrong_axis(embeddings: Tensor) -> bool:
    """Say whether the channels have unit length over images, and images have none over channels."""
    found = embeddings.float()
    columns, rows = found.norm(dim=0), found.norm(dim=1)
    return bool(((columns - 1).abs() < 1e-2).float().mean() > 0.9 and ((rows - 1).abs() > 1e-2).float().mean() > 0.9)  # fmt: skip
