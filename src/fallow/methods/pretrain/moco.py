"""MoCo: a view finds what a slow average says of its other view, among many older ones."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fallow.augment import SMALL_SIDE
from fallow.errors import ConfigError
from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod, Teacher
from fallow.methods.pretrain.parts import contrast, float32, mlp, width
from fallow.methods.pretrain.queue import Queue

_MOST_KEYS, _IMAGES_A_KEY, _BATCHES = 65536, 12, 4
"""Keys of the queue on ImageNet; images for each of them on CIFAR-10 (4,096 for 50,000); and least batches that it holds."""


class MoCo(PretrainMethod):
    """Minimize InfoNCE of queries of the student and keys of its moving average.

    Version 2 (Chen et al. 2020, arXiv 2003.04297; He et al. 2019, 1911.05722, eq. 1): a query meets the keys of earlier batches
    in a queue. Version 3 (Chen et al. 2021, 2104.02057, alg. 1): a predictor, both directions, the batch's keys and no queue,
    the loss times 2 ``temperature``.

    In long runs keys are computed with the average's running statistics of BatchNorm. In the papers a key's batch tells which
    images were in it, and shuffling over several GPUs hides that; here no image is in another's key, on one device too. An image
    that is in the queue from before is not among its own negatives, which matters where there are few images.

    Args:
        version: 2 or 3.
        temperature: Divides the cosines; None: 0.2 as in both papers, 0.1 for images up to 64 pixels a side, as in the authors'
            experiment on CIFAR-10.
        key_norm: Whose statistics BatchNorm uses for keys, those of the ``batch`` or ``running`` ones; None: ``running`` in runs of
            10,000 steps and more. In a short run they lag behind weights that change fast, and there is no time to learn to cheat.
            250 steps on 4,000 CIFAR-10 images, nearest neighbors right: 35.1 % with ``running``, 38.0 % with ``batch``.
        queue: Keys that the queue holds; None: a twelfth of the images, as in that experiment, but those of four batches at least and
            the paper's 65,536 at most. Keys of long ago are of another network: 250 steps on 4,000 CIFAR-10 images, nearest neighbors
            right: 31.2 % with all images in the queue, 36.5 % with this.
        hidden: Width of the projector's hidden layers; None: that of the features, in version 3 twice that (4,096 for the paper's
            2,048).
        out: Width of its output; None: 128, in version 3 256.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="moco",
        title="a view finds its slow average's other view among many older ones",
        family="pretrain",
        paper="He et al. 2019, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297 (v2); Chen et al. 2021, arXiv 2104.02057 (v3)",
        needs=("unlabeled",),
        suits="small batches, as the queue holds the other images; version=3 for vision transformers and large batches",
        cost=2.3,
    )
    recipe = "moco"
    least_batch = 32
    temperature: float
    teacher: Teacher

    def __init__(
        self,
        *,
        version: Literal[2, 3] = 2,
        temperature: float | None = None,
        key_norm: Literal["batch", "running"] | None = None,
        queue: int | None = None,
        hidden: int | None = None,
        out: int | None = None,
    ) -> None:
        super().__init__()
        if version not in (2, 3):
            raise ConfigError(f"there is no version {version} of moco: use 2 or 3")
        if key_norm not in (None, "batch", "running"):
            raise ConfigError(
                f"there are no statistics '{key_norm}' for the keys of moco: use batch or running"
            )
        self.version, self.asked, self.length, self.hidden = version, temperature, queue, hidden
        self.key_norm = key_norm
        self.out = out if out is not None else {2: 128, 3: 256}[version]
        self.teacher = {2: Teacher(0.999, None), 3: Teacher(0.99, 1.0)}[version]
        if version == 3:
            self.recipe = "byol"

    def make(self, dim: int) -> None:
        """Make the projector, and the queue or the predictor."""
        rule = "In runs of 10,000 steps and more running statistics, as a key's batch tells which images are in it; in shorter ones these lag."
        norm = self.settle("key_norm", self.key_norm, "batch" if self.short else "running", rule)
        self.teacher = replace(self.teacher, norm="batch" if norm == "batch" else "running")
        rule = f"The papers' 0.2; 0.1 for images up to {SMALL_SIDE} pixels, as in the authors' experiment on CIFAR-10."
        self.temperature = self.settle("temperature", self.asked, 0.1 if self.small else 0.2, rule)
        if self.version == 2:
            self.projector = mlp(dim, width(self.hidden, dim, 1), self.out)
            self.queue = Queue(self._length(), self.out)
            return
        hidden = width(self.hidden, dim, 2)
        self.projector = mlp(dim, hidden, hidden, self.out, last_norm=True)
        self.predictor = mlp(self.out, hidden, self.out, last_norm=True)

    def _length(self) -> int:
        """Return how many keys the queue holds."""
        usual = min(_MOST_KEYS, max(self.n_images // _IMAGES_A_KEY, _BATCHES * self.batch_size))
        rule = f"One for {_IMAGES_A_KEY} images, {_BATCHES} batches at least: keys of long ago are of another network."
        length = self.settle("queue", self.length, usual, rule)
        return min(length, max(self.n_images, self.batch_size))

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss."""
        features = [ctx.features(view)[0] for view in batch.unlabeled[: self.version - 1]]
        keys = [self._keys(view, ctx) for view in batch.unlabeled[-(self.version - 1) :]]
        answers = [self.projector(found) for found in features]
        if self.version == 3:
            answers = [self.predictor(found) for found in answers]
        with float32(answers[0]):
            queries = [normalize(found.float(), dim=1) for found in answers]
            if self.version == 2:
                loss, chance = self._among_queued(queries[0], keys[0], batch.index, ctx)
            else:
                index, all_keys = batch.index, [ctx.gather(key) for key in keys]
                one, chance = self._among(queries[0], keys[1], all_keys[1], index, ctx.gather(index))
                two, _ = self._among(queries[1], keys[0], all_keys[0], index, ctx.gather(index))
                loss, chance = (one + two) * 2 * self.temperature, 4 * self.temperature * chance
        health = {"chance_loss": chance, "embeddings": queries[0].detach(), "partners": keys[-1]}
        return Step(loss, health={**health, "features": features[0].detach()})

    @torch.no_grad()
    def _keys(self, view: Tensor, ctx: PretrainContext) -> Tensor:
        (found,) = ctx.teacher_features(view)
        return normalize(ctx.teacher_method().projector(found).float(), dim=1)

    def _among_queued(
        self, queries: Tensor, keys: Tensor, index: Tensor, ctx: PretrainContext
    ) -> tuple[Tensor, Tensor]:
        everyone, of = ctx.gather(keys), ctx.gather(index)
        if not bool(
            self.queue.filled.any()
        ):  # nothing to be told from yet: the first batch is its own company
            found = self._among(queries, keys, everyone, index, of)
        else:
            others, known = self.queue.values.clone(), self.queue.index.clone()
            found = self._among(queries, keys, others, index, known)
        self.queue.push(everyone, of)
        return found

    def _among(
        self, queries: Tensor, keys: Tensor, others: Tensor, index: Tensor, of: Tensor
    ) -> tuple[Tensor, Tensor]:
        strangers = (index[:, None] != of) & (of >= 0)
        losses, chance = contrast(queries, keys, others, strangers, self.temperature)
        return losses.mean(), chance.mean()
