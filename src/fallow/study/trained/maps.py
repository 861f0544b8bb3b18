"""The frozen part of a network is run once, on a few noised views of each image: all fits of a run train on its maps.

Nothing here looks at a label. What depends on labels is only which flips and turns the noise may use, and that each fold
decides with its own labels (`fallow.study.trained.noise`): maps are kept by the noise they were made with, and folds that
decided alike share them. A fold with another noise has maps of its own, as if it were alone.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fallow.data import cores, in_order, stratified
from fallow.engine import Change, Maps, Material, Sheet, TwoSheets, generator
from fallow.errors import RunError
from fallow.methods import Strength, Views
from fallow.models import (
    Cut,
    Engine,
    Network,
    TailNetwork,
    find_cut,
    make_engine,
    pick_device,
    trunk_backbone,
)
from fallow.study.context import RungContext
from fallow.study.trained.map_plan import MapPlan, Speed, known_plan, make_plan, no_plan

_CHUNK = 32
Part = Literal["labeled", "pool", "extra"]
_DRAWN: dict[Part, int] = {"pool": 0, "labeled": 1, "extra": 2}
"""Number of a part in the seeds of its noise."""
_TOLD: dict[Part, str] = {"pool": "pool", "labeled": "labeled images", "extra": "extra images"}
_IN_MEMORY = 1 << 30
"""Bytes of maps that lie in memory; what goes beyond lies in a file."""


@dataclass
class MapBank:
    """The maps of one trunk, made when a fit first asks for them.

    Attributes:
        ctx: Data, clock and cache.
        plan: How many there are.
        cut: What the maps are.
        engine: Runs the trunk.
        speed: What was measured of it.
        sheets: Those that were made, by what they are maps of.
    """

    ctx: RungContext
    plan: MapPlan
    cut: Cut
    engine: Engine
    speed: Speed
    sheets: dict[tuple[str, ...], Sheet] = field(default_factory=dict)

    def maps(self, material: Material, changes: Mapping[Strength, Change], views: Views) -> Maps:
        """Return what a fit draws from.

        Args:
            material: Its pixels.
            changes: Its noise, by strength.
            views: What its method looks at.
        """
        return self._of(lambda s, part: self._sheet(material, changes.get(s), s, part), material, views)

    def _of(self, sheet: Callable[[Strength, Part], Sheet], material: Material, views: Views) -> Maps:
        """Put sheets together. Extra images have one of their own: those of the labels are the same without them."""
        known: dict[Strength, Sheet | TwoSheets] = {s: sheet(s, "labeled") for s in views.labeled}
        if bool((material.labeled >= self._first_extra).any()):
            known = {s: TwoSheets(sheet(s, "labeled"), sheet(s, "extra"), self._first_extra) for s in known}
        pool = views.unlabeled if len(material.unlabeled) else ()
        return Maps(known, {s: sheet(s, "pool") for s in pool}, self._chosen)

    def mapped(self, material: Material) -> Material:
        """Return the material without extra images that have no maps; those that stay are drawn as often as all would be."""
        weights, late = material.labeled_weights, material.labeled >= self._first_extra
        if weights is None or self.plan.extra >= int(late.sum()):
            return material
        stay = ~late | torch.isin(material.labeled, torch.from_numpy(self._rows("extra")))
        share = weights[late].sum() / weights[late & stay].sum()
        return replace(
            material,
            labeled=material.labeled[stay],
            targets=material.targets[stay],
            labeled_weights=torch.where(late, weights * share, weights)[stay],
        )

    def blank(self, material: Material, views: Views) -> Maps:
        """Return maps of nothing, for measuring a step."""

        def sheet(strength: Strength, part: Part) -> Sheet:
            rows = self._rows(part)
            k = self.plan.count(strength, part == "labeled")
            shape = (len(rows), k, *self.cut.shape)
            maps = np.broadcast_to(np.zeros((), self._dtype), shape)
            return Sheet(maps, torch.eye(2, 3).expand(len(rows), k, 2, 3), rows=rows)

        return self._of(sheet, material, views)

    def features(self, tail: TailNetwork, material: Material, change: Change | None) -> NDArray[np.float32]:
        """Return features of the pool's images, the mean over their weak views, (pool, dim); 0 for those without maps."""
        sheet = self._sheet(material, change, "weak", "pool")
        found, places = [], np.arange(len(self.ctx.pool)) if self._chosen is None else self._chosen.numpy()
        tail.eval()
        with torch.inference_mode():
            for start in range(0, len(sheet.maps), _CHUNK):
                maps = torch.from_numpy(sheet.maps[start : start + _CHUNK].astype(np.float32))
                features = tail.features(maps.flatten(0, 1))
                found.append(features.reshape(*maps.shape[:2], -1).mean(1))
        made = np.zeros((len(self.ctx.pool), found[0].shape[1]), np.float32)
        made[places] = torch.cat(found).numpy()
        return made

    def seconds(self, changes: Mapping[Strength, Change], views: Views, noises: int) -> float:
        """Return what the maps that a rung still needs will take, where its folds have so many different noises."""
        parts: tuple[Part, ...] = ("labeled", "extra") if views.unlabeled else ("labeled",)
        wanted: list[tuple[Strength, Part]] = [(s, part) for part in parts for s in views.labeled]
        wanted += [(s, "pool") for s in views.unlabeled]
        missing = [
            (s, part)
            for s, part in dict.fromkeys(wanted)
            if self._key(changes.get(s), s, part) not in self.sheets
        ]
        count = sum(len(self._rows(p)) * self.plan.count(s, p == "labeled") for s, p in missing)
        return self.speed.seconds * noises * count

    @property
    def _dtype(self) -> type[np.floating]:
        return np.float16 if self.plan.half else np.float32

    @cached_property
    def _chosen(self) -> Tensor | None:
        """Positions in the pool of the images that have maps."""
        count = len(self.ctx.pool)
        if self.plan.pool >= count:
            return None
        order = torch.randperm(count, generator=generator(self.ctx.config.seed, "pool with maps"))
        return order[: self.plan.pool].sort().values

    @property
    def _first_extra(self) -> int:
        """Row of the first extra image in the pixels."""
        return len(self.ctx.data.y) + len(self.ctx.pool)

    def _rows(self, part: Part) -> NDArray[np.int64]:
        labels = len(self.ctx.data.y)
        if part == "labeled":
            return np.arange(labels)
        if part == "extra":
            y = self.ctx.data.extra_y
            drawn = stratified(y, self.plan.extra, np.random.default_rng(self.ctx.config.seed))
            return np.asarray(self._first_extra + drawn, np.int64)
        chosen = np.arange(len(self.ctx.pool)) if self._chosen is None else self._chosen.numpy()
        return np.asarray(labels + chosen, np.int64)

    @staticmethod
    def _key(change: Change | None, strength: Strength, part: Part) -> tuple[str, ...]:
        return strength, part, repr(change)

    def _sheet(self, material: Material, change: Change | None, strength: Strength, part: Part) -> Sheet:
        key = self._key(change, strength, part)
        if key not in self.sheets:
            self.sheets[key] = self._made(material.pixels, change, strength, part)
        return self.sheets[key]

    def _made(
        self, pixels: NDArray[np.uint8], change: Change | None, strength: Strength, part: Part
    ) -> Sheet:
        rows, k = self._rows(part), self.plan.count(strength, part == "labeled")
        taken = sum(one.maps.nbytes for one in self.sheets.values() if not isinstance(one.maps, np.memmap))
        shape, folder = (len(rows), k, *self.cut.shape), self.ctx.bank.cache / "maps"
        maps = _room(shape, self._dtype, folder, _IN_MEMORY - taken)
        affine = torch.eye(2, 3).repeat(len(rows), k, 1, 1)
        jobs = [(view, start) for view in range(k) for start in range(0, len(rows), _CHUNK)]

        def work(job: tuple[int, int]) -> tuple[NDArray[np.float32], Tensor | None]:
            view, start = job
            drawn = generator(self.ctx.config.seed, "maps", strength, _DRAWN[part], view, start)
            return run(self.engine, pixels[rows[start : start + _CHUNK]], change, drawn)

        what = f"{strength} views of the {_TOLD[part]}"
        most = float(np.finfo(self._dtype).max)
        workers = max(1, cores()) if self.engine.parallel else 1
        for done, ((view, start), (found, moved)) in enumerate(
            zip(jobs, in_order(work, jobs, workers), strict=True)
        ):
            maps[start : start + len(found), view] = np.clip(found, -most, most)
            if moved is not None:
                affine[start : start + len(found), view] = moved
            self.ctx.progress(f"keep {what}", min(_CHUNK * (done + 1), len(rows) * k), len(rows) * k)
        return Sheet(maps, affine, rows=rows)


def bank_of(
    ctx: RungContext, network: Network, pixels: NDArray[np.uint8], change: Change | None
) -> MapBank | None:
    """Return the maps that a network can be trained on; None where it is trained on pixels.

    Args:
        ctx: Data, decisions and clock.
        network: Its trained parts, its size and its trunk count.
        pixels: Images to measure with.
        change: Noise to measure with.
    """
    asked = ctx.config
    # Boxes can be cut out of images, not out of maps; and a network that computes its activations twice is run as a whole.
    # Adapters reach into the first layers: nothing stands still but those.
    whole = asked.augment.mix == "cutmix" or asked.optimization.gradient_checkpointing or network.adapted
    if network.parts == ("",) or whole or asked.network.views == 0 or pick_device("auto") != "cpu":
        return None
    plan = known_plan(ctx)
    if plan is not None and not plan.views:
        return None
    try:
        cut = find_cut(network)
    except RunError as error:
        no_plan(ctx, str(error))
        return None
    key = ("run", f"maps {cut.trunk_id}")
    if key not in ctx.scratch:
        engine = make_engine(trunk_backbone(network, cut), network.size, ctx.bank.cache / "graphs", "cpu")
        speed = measured(engine, pixels, change)
        ctx.scratch[key] = MapBank(ctx, plan or make_plan(ctx, speed), cut, engine, speed)
    bank: MapBank = ctx.scratch[key]
    return bank


def measured(engine: Engine, pixels: NDArray[np.uint8], change: Change | None) -> Speed:
    """Measure noise and trunk on a few images."""
    workers = max(1, cores()) if engine.parallel else 1
    rows = np.resize(np.arange(len(pixels)), (2 * workers, _CHUNK))

    def work(some: NDArray[np.int64]) -> NDArray[np.float32]:
        return run(engine, pixels[some], change, generator(0, "measure"))[0]

    work(rows[0, :1])
    begun = time.monotonic()
    found = list(in_order(work, rows, workers))
    seconds = (time.monotonic() - begun) / rows.size
    largest = max(float(np.abs(maps).max()) for maps in found)
    return Speed(max(seconds, 1e-6), largest, int(np.prod(found[0].shape[1:])))


def run(
    engine: Engine, pixels: NDArray[np.uint8], change: Change | None, drawn: torch.Generator
) -> tuple[NDArray[np.float32], Tensor | None]:
    """Noise images (n, S, S, 3) and return the maps of the trunk with the views' affine maps."""
    affine = None
    if change is not None:
        planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div_(255)
        changed, affine = change(planes, drawn)
        noised = changed.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        pixels = noised.permute(0, 2, 3, 1).contiguous().numpy()
    parts = []
    for start in range(0, len(pixels), engine.batch):
        part = pixels[start : start + engine.batch]
        padded = np.zeros((engine.batch, *part.shape[1:]), np.uint8)
        padded[: len(part)] = part
        parts.append(engine.run(padded)[: len(part)])
    return np.concatenate(parts), affine


def _room(
    shape: tuple[int, ...], dtype: type[np.floating], folder: Path, memory: int
) -> NDArray[np.floating]:
    """Return an array: in memory up to so many bytes, else in a file without a name that ends with the process."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= memory:
        return np.zeros(shape, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the map
        if hasattr(os, "posix_fallocate"):  # a disk that is full says so now, and not by a signal later
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise RunError(
            f"there is no room for {size / 1e9:.1f} GB of maps in '{folder}' ({error.strerror}): free some, or use "
            "--set network.views=0"
        ) from error
