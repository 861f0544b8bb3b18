"""MoCo: a view finds what a slow average says of its other view, among many older ones."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fallow.errors import ConfigError
from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod, Teacher
from fallow.methods.pretrain.parts import contrast, float32, mlp, width
from fallow.methods.pretrain.queue import Queue


class MoCo(PretrainMethod):
    """Minimize InfoNCE of queries of the student and keys of its moving average.

    Version 2 (Chen et al. 2020, arXiv 2003.04297; He et al. 2019, 1911.05722, eq. 1): a query meets the keys of earlier batches
    in a queue. Version 3 (Chen et al. 2021, 2104.02057, alg. 1): a predictor, both directions, the batch's keys and no queue,
    the loss times 2 ``temperature``.

    Keys are computed with the average's running statistics of BatchNorm. In the papers a key's batch tells which images were in
    it, and shuffling over several GPUs hides that; here no image is in another's key, on one device too. An image that is in the
    queue from before is not among its own negatives, which matters where there are few images.

    Args:
        version: 2 or 3.
        temperature: Divides the cosines; None: 0.2 in both papers.
        queue: Keys that the queue holds; it holds no more than there are images.
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

    def __init__(
        self,
        *,
        version: Literal[2, 3] = 2,
        temperature: float = 0.2,
        queue: int = 65536,
        hidden: int | None = None,
        out: int | None = None,
    ) -> None:
        super().__init__()
        if version not in (2, 3):
            raise ConfigError(f"there is no version {version} of moco: use 2 or 3")
        self.version, self.temperature, self.length, self.hidden = version, temperature, queue, hidden
        self.out = out if out is not None else {2: 128, 3: 256}[version]
        self.teacher = {2: Teacher(0.999, None, "running"), 3: Teacher(0.99, 1.0, "running")}[version]
        if version == 3:
            self.recipe = "byol"

    def make(self, dim: int) -> None:
        """Make the projector, and the queue or the predictor."""
        if self.version == 2:
            self.projector = mlp(dim, width(self.hidden, dim, 1), self.out)
            self.queue = Queue(min(self.length, max(self.n_images, self.batch_size)), self.out)
            return
        hidden = width(self.hidden, dim, 2)
        self.projector = mlp(dim, hidden, hidden, self.out, last_norm=True)
        self.predictor = mlp(self.out, hidden, self.out, last_norm=True)

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
