"""Class probabilities per unit: the one value that joint methods see, whatever the task.

A unit is an image (classification), an image x class (multi-label), a pixel (segmentation), a box (detection) or a
point (keypoints). Three kinds cover them:

* ``categorical``: each row of ``probs`` sums to one; one weight per row.
* ``bernoulli``: each entry of ``probs`` is a probability of its own; one weight per entry.
* ``located``: categorical rows with a box each, and any number of rows per image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["categorical", "bernoulli", "located"]
_TINY = 1e-8


@dataclass(frozen=True)
class View:
    """How a batch of images was shown to a network.

    Attributes:
        affine: Float (images, 2, 3). Maps the view's normalized coordinates (x right, y down, both in -1..1) to those
            of the source image: the convention of ``torch.nn.functional.affine_grid``. None is the identity.
        strong: True for the strongly augmented view.
    """

    affine: Tensor | None = None
    strong: bool = False

    def matrix(self, images: int, like: Tensor) -> Tensor:
        """Return the affine as (images, 3, 3), identity where there is none."""
        bottom = torch.tensor([0.0, 0.0, 1.0], device=like.device).expand(images, 1, 3)
        if self.affine is None:
            return torch.eye(3, device=like.device).expand(images, 3, 3)
        return torch.cat([self.affine.to(like.device, torch.float32), bottom], 1)


@dataclass(frozen=True)
class Posteriors:
    """Class probabilities of units.

    Attributes:
        kind: ``categorical``, ``bernoulli`` or ``located``.
        probs: Float (units, classes).
        image_index: Long (units,): the image in the batch that each unit belongs to.
        boxes: Float (units, 4) as x0, y0, x1, y1 in normalized view coordinates (-1..1); ``located`` only.
        grid: (height, width) of dense units, which then are ordered image, row, column; None for others.
        valid: Bool (units,): False where a unit left the picture when it was warped. None means all.
    """

    kind: Kind
    probs: Tensor
    image_index: Tensor
    boxes: Tensor | None = None
    grid: tuple[int, int] | None = None
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        if self.probs.ndim != 2 or self.image_index.shape != self.probs.shape[:1]:
            raise ValueError(
                f"probs should be (units, classes) and image_index (units,), not {tuple(self.probs.shape)} and "
                f"{tuple(self.image_index.shape)}"
            )
        if (self.kind == "located") != (self.boxes is not None):
            raise ValueError("located posteriors need boxes, and only they have them")

    @property
    def independent(self) -> bool:
        """True when each entry of ``probs`` is a decision of its own (multi-label)."""
        return self.kind == "bernoulli"

    @property
    def score(self) -> Tensor:
        """Confidence: the largest class probability, (units,); for bernoulli max(p, 1 - p), (units, classes)."""
        return torch.maximum(self.probs, 1 - self.probs) if self.independent else self.probs.amax(1)

    @property
    def entropy(self) -> Tensor:
        """Entropy in nats; the shape of `score`."""
        own = -torch.special.xlogy(self.probs, self.probs.clamp_min(_TINY))
        if not self.independent:
            return Tensor.sum(own, 1)
        other = 1 - self.probs
        return own - torch.special.xlogy(other, other.clamp_min(_TINY))

    @property
    def weight(self) -> Tensor:
        """1.0 where a unit is valid and 0.0 where not; the shape of `score`. Methods multiply theirs onto it."""
        ones = torch.ones_like(self.score)
        if self.valid is None:
            return ones
        valid = self.valid.to(ones.dtype)
        return ones * (valid[:, None] if self.independent else valid)

    def hard(self) -> Posteriors:
        """Return the same units with all mass on the likeliest class."""
        if self.independent:
            return replace(self, probs=(self.probs > 0.5).to(self.probs.dtype))
        return replace(
            self, probs=functional.one_hot(self.probs.argmax(1), self.probs.shape[1]).to(self.probs.dtype)
        )

    def sharpen(self, temperature: float) -> Posteriors:
        """Return p^(1/T), normalized (MixMatch, arXiv 1905.02249, eq. 7); T < 1 sharpens, 1 changes nothing."""
        if temperature <= 0:
            raise ValueError(f"temperature should be above 0, not {temperature}")
        log_own = self.probs.clamp_min(_TINY).log() / temperature
        if self.independent:
            log_other = (1 - self.probs).clamp_min(_TINY).log() / temperature
            return replace(self, probs=torch.sigmoid(log_own - log_other))
        return replace(self, probs=torch.softmax(log_own, 1))

    def mean(self) -> Tensor:
        """Return the mean probability of each class over the valid units, (classes,)."""
        if self.valid is None:
            return self.probs.mean(0)
        weight = self.valid.to(self.probs.dtype)[:, None]
        return (self.probs * weight).sum(0) / weight.sum().clamp_min(1)

    def align(self, to: Tensor, current: Tensor | None = None) -> Posteriors:
        """Distribution alignment (ReMixMatch, arXiv 1911.09785, section 3.1): scale by ``to / current``, normalize.

        Args:
            to: Class proportions wanted, (classes,).
            current: Proportions predicted so far, (classes,); default: those of these units. Methods hand in a
                running mean, gathered over processes.
        """
        ratio = to / (self.mean() if current is None else current).clamp_min(_TINY)
        if self.independent:
            other = (1 - to) / (1 - (self.mean() if current is None else current)).clamp_min(_TINY)
            own, rest = self.probs * ratio, (1 - self.probs) * other
            return replace(self, probs=own / (own + rest).clamp_min(_TINY))
        scaled = self.probs * ratio
        return replace(self, probs=scaled / scaled.sum(1, keepdim=True).clamp_min(_TINY))

    def warp(self, view_from: View, view_to: View) -> Posteriors:
        """Carry dense and box units from one view of the images into another; other units stay as they are.

        Dense: the class probabilities at a pixel of ``view_to`` are read (bilinearly) where the same image point lies
        in ``view_from``; pixels outside of it become invalid. Boxes: corners are moved and boxed again, clipped to the
        picture; boxes with no area left become invalid.
        """
        if self.grid is None and self.boxes is None:
            return self
        images = int(self.image_index.max()) + 1 if len(self.image_index) else 0
        if images == 0:
            return self
        start, end = view_from.matrix(images, self.probs), view_to.matrix(images, self.probs)
        if self.boxes is not None:
            return self._warp_boxes(torch.linalg.solve(end, start))
        return self._warp_grid(torch.linalg.solve(start, end))

    def _warp_grid(self, matrix: Tensor) -> Posteriors:
        assert self.grid is not None
        images, (height, width) = len(matrix), self.grid
        dense = self.probs.reshape(images, height, width, -1).permute(0, 3, 1, 2)
        known = (
            torch.ones_like(dense[:, :1])
            if self.valid is None
            else self.valid.reshape(images, 1, height, width)
        )
        where = functional.affine_grid(matrix[:, :2], [images, 1, height, width], align_corners=False)
        both = torch.cat([dense, known.to(dense.dtype)], 1)
        moved = functional.grid_sample(both, where.to(dense.dtype), padding_mode="zeros", align_corners=False)
        probs, seen = moved[:, :-1], moved[:, -1:]
        uniform = torch.full_like(probs, 0.5 if self.independent else 1 / probs.shape[1])
        probs = torch.where(seen > 0.5, probs / seen.clamp_min(_TINY), uniform)
        flat = probs.permute(0, 2, 3, 1).reshape(-1, probs.shape[1])
        return replace(self, probs=flat, valid=(seen > 0.5).reshape(-1))

    def _warp_boxes(self, matrix: Tensor) -> Posteriors:
        assert self.boxes is not None
        x0, y0, x1, y1 = self.boxes.unbind(1)
        one = torch.ones_like(x0)
        corners = torch.stack(
            [torch.stack([x, y, one], 1) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], 2
        )
        moved = (matrix[self.image_index].to(corners.dtype) @ corners)[:, :2]
        boxes = torch.cat([moved.amin(2), moved.amax(2)], 1).clamp(-1, 1)
        inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return replace(self, boxes=boxes, valid=inside if self.valid is None else inside & self.valid)
