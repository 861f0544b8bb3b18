"""The loop of one run: views of images that nobody labels, a method, a network, and a look at it now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fallow.engine import Feed, Loop, LoopSettings, Material, Place, derive, generator
from fallow.errors import RunError
from fallow.methods import PretrainMethod, pretrain_method
from fallow.models import Backbone, Network, from_backbone, token_info
from fallow.record import read_json, write_json
from fallow.record.rundir import append_line
from fallow.study.pretraining.judge import Judge
from fallow.study.pretraining.measure import knn_accuracy
from fallow.study.pretraining.plan import PretrainPlan
from fallow.tasks import FeatureInfo
from fallow.types import Progress, silent

_LOOK_BATCH, _LOOKS_PART = 64, 20
_LOOKED_AT, _LOOK_FOLDS = 500, 5
"""Images that are looked at while the network learns, and parts of them that neighbors vote for, at most."""


@dataclass(frozen=True)
class Lesson:
    """What a loop is made of.

    Attributes:
        pixels: Images to learn from, uint8 (n, s, s, 3).
        gray: They are gray.
        options: Values of the method's own.
        taught: Class of each image by number, -1 where it has none, (n,), for methods that learn from labels.
        known: What a frozen network says of each image, (n, d), where the method asks for it.
        progress: Who watches.
        tell: Takes a sentence that a person should read.
    """

    pixels: NDArray[np.uint8]
    gray: bool
    options: dict[str, object] = field(default_factory=dict)
    taught: NDArray[np.int64] | None = None
    known: Tensor | None = None
    progress: Progress = silent
    tell: Callable[[str], None] | None = None

    def loop(
        self, start: Backbone, plan: PretrainPlan, place: Place | None = None, title: str = "pretrain"
    ) -> Loop:
        """Return the loop of a plan, from a copy of ``start``."""
        size = plan.network.size
        network = from_backbone(start, nn.Identity(), size, trainable=plan.network.trainable)
        method = self._method(network, start.dim_at(size), plan)
        material, settings = self._dealt(plan.settings, with_labels=bool(method.views.labeled))
        changes = method.augmentations(size, gray=self.gray, flips=plan.flips)
        feed = Feed(material, changes, method.views, settings)
        return Loop(
            network, method, feed, settings, place=place, progress=self.progress, title=title, tell=self.tell
        )

    def settled(self, start: Backbone, plan: PretrainPlan) -> dict[str, tuple[int | float | str | bool, str]]:
        """Return what the method's options became that follow from the run: value and rule by name."""
        network = from_backbone(start, nn.Identity(), plan.network.size, trainable=plan.network.trainable)
        return self._method(network, start.dim_at(plan.network.size), plan).settled

    def check(self, start: Backbone, plan: PretrainPlan) -> None:
        """Make what can be made before a frozen network has seen the images: what cannot be had is told at once."""
        if not pretrain_method(plan.method, **self.options).asks:
            self.loop(start, plan)

    def _method(self, network: Network, dim: int, plan: PretrainPlan) -> PretrainMethod:
        settings = plan.settings
        with torch.random.fork_rng(devices=[]):  # the method's parts are the same whatever was drawn before
            torch.manual_seed(derive(settings.seed, "method"))
            method = pretrain_method(plan.method, **{**plan.options, **self.options})
            method.build(
                FeatureInfo(dim),
                len(self.pixels),
                0 if self.taught is None else int(self.taught.max()) + 1,
                settings.steps,
                batch_size=settings.unlabeled_batch,
                tokens=token_info(network),
                size=plan.network.size,
                known=self.known,
            )
        return method

    def _dealt(self, settings: LoopSettings, *, with_labels: bool) -> tuple[Material, LoopSettings]:
        """Return what is learned from, and the settings with the share of a batch that is labeled.

        That is half of the batch or the share that labeled images have among all, whichever is more, but each image once.
        """
        everyone = np.arange(len(self.pixels))
        taught = self.taught if with_labels and self.taught is not None else np.full(len(everyone), -1)
        known, others = everyone[taught >= 0], everyone[taught < 0]
        batch = settings.unlabeled_batch
        share = max(batch // 2, round(batch * len(known) / len(everyone)))
        labeled = batch if not len(others) else min(share, len(known), batch - 1)
        rows, pool = torch.from_numpy(known), torch.from_numpy(others)
        material = Material(self.pixels, rows, torch.from_numpy(taught[known]), pool)
        return material, replace(settings, batch_size=labeled, unlabeled_batch=batch - labeled)

    def noised(self, plan: PretrainPlan, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return one view of some images as the method changes them first, uint8 (n, s, s, 3); the same whenever asked."""
        method = pretrain_method(plan.method, **self.options)
        name = method.views.unlabeled[0]
        change = method.augmentations(plan.network.size, gray=self.gray, flips=plan.flips)[name]
        images = torch.from_numpy(self.pixels[rows]).permute(0, 3, 1, 2).float() / 255
        changed, _ = change(images, generator(plan.settings.seed, "stability"))
        levels = (changed * 255).round().clamp(0, 255).to(torch.uint8)
        made: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).contiguous().numpy()
        return made


@dataclass
class Look:
    """Looks at a network while it learns: how often do the nearest images name one rightly?

    Attributes:
        pixels: Judging images, uint8 (n, s, s, 3).
        y: Their classes.
        folds: What each fold holds out.
        every: Seconds between two looks; more where a look takes long, so that all of them take a twentieth of the time at most.
        log: File that each look is added to.
        tell: Told each look in a few words.
    """

    pixels: NDArray[np.uint8]
    y: NDArray[np.int64]
    folds: list[NDArray[np.int64]]
    every: float
    log: Path
    tell: Callable[[str], None]
    _last: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, judge: Judge, every: float, log: Path, tell: Callable[[str], None]) -> Self:
        """Return what looks at some of the images that judge, in no more folds than `_LOOK_FOLDS`; at nothing where no label judges."""
        chosen = np.random.default_rng([judge.seed, 11]).permutation(len(judge.ids))
        chosen = np.sort(chosen[:_LOOKED_AT])
        place = {int(row): position for position, row in enumerate(chosen)}
        held = [np.array([place[i] for i in fold.tolist() if i in place], np.int64) for fold in judge.folds]
        held = [fold for fold in held if 0 < len(fold) < len(chosen)][:_LOOK_FOLDS]
        pixels = judge.read(tuple(judge.ids[i] for i in chosen)) if held else np.zeros((0, 1, 1, 3), np.uint8)
        return cls(pixels, judge.y[chosen], held, every, log, tell)

    def __call__(self, loop: Loop, step: int) -> None:
        """Look, where it is time; nothing of the training is changed by it."""
        if not self.folds or (begun := time.monotonic()) - self._last < self.every:
            return
        accuracy = knn_accuracy(features_now(loop, self.pixels), self.y, self.folds)
        append_line(self.log, {"step": step, "knn": accuracy})
        self.tell(f"step {step:,}: neighbors right {100 * accuracy:.1f} %")
        self._last = time.monotonic()
        self.every = max(self.every, _LOOKS_PART * (self._last - begun))


def features_now(loop: Loop, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features of images (n, s, s, 3) by the network as it is now, (n, dim)."""
    network = loop.trainee.network
    training = [part for part in network.modules() if part.training]
    found: list[Tensor] = []
    try:
        network.eval()
        with torch.inference_mode():
            for start in range(0, len(pixels), _LOOK_BATCH):
                part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _LOOK_BATCH]))
                images = part.to(loop.fabric.device).permute(0, 3, 1, 2).float() / 255
                found.append(network.features(images).float().cpu())  # type: ignore[operator]
    finally:
        for module in training:
            module.training = True
    return np.asarray(torch.cat(found).numpy(), np.float32)


def note_seconds(folder: Path | None, seconds: float) -> None:
    """Write down how long the steps took so far, for the rate of a run that goes on."""
    if folder is not None:
        write_json(folder / "seconds.json", {"seconds": seconds})


def seconds_before(folder: Path) -> float:
    """Return what `note_seconds` has kept; 0 where it has kept nothing."""
    try:
        return float(read_json(folder / "seconds.json")["seconds"])
    except (RunError, KeyError, TypeError, ValueError):
        return 0.0
