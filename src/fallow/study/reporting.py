"""Gather what the report shows: plain values, as much as the time left allows."""

from __future__ import annotations

import os
import platform
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fallow._version import __version__
from fallow.augment import ReachRow, measure_reach
from fallow.record import StudyResult, read_json
from fallow.report import ClassRow, MapPoint, ReportData, Thumb, choose_map_points, map_layout, picture
from fallow.report.explain import short_name
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.context import RungContext
from fallow.study.pace import SHOWN_LEAST
from fallow.study.plan import pool_order
from fallow.study.rung import ImageSet
from fallow.study.scoring import Tested
from fallow.study.spaces import spaces_of
from fallow.types import RungName

if TYPE_CHECKING:
    from fallow.study.ladder import Study

_GRID = 24
"""Images in each grid of the report."""
_GRID_SIDE, _AUDIT_SIDE, _MAP_SIDE, _SMALL_SIDE = 224, 112, 112, 88
"""Longer sides of thumbnails, in pixels: twice what is seen, or the page would grow past 10 MB."""
_FULL_MAP = 1200
"""Points on the map above which their thumbnails are small."""
_REACH_IMAGES = 48
_AUDIT_THUMBS = 60
_POOL_SHARE, _MAP_SHARE, _PICTURES_SHARE, _REACH_SHARE = 0.4, 0.3, 0.1, 0.4
"""Shares of the time left that answers for the pool, the map, its pictures, and reach may take."""
_POOL_TIMED = 16

Probs = NDArray[np.float32]


def gather_report(study: Study, ctx: RungContext, result: StudyResult, tested: Tested) -> ReportData:
    """Return everything the page shows."""
    best, base = result.chosen.rung, result.labels_only.rung
    confusion, rows, source = _classes(study, ctx, best, base, tested)
    pool = _pool(study, ctx, best, base, _POOL_SHARE * max(study.clock.left, 0.0))
    audit = read_json(study.run.audit)
    left = max(study.clock.left, 0.0)
    return ReportData(
        result=result,
        run_name=study.run.path.name,
        classes=ctx.data.classes,
        decisions=tuple(study.decisions),
        audit=audit,
        audit_thumbs=_audit_thumbs(ctx, audit),
        confusion=confusion,
        confusion_source=source,  # type: ignore[arg-type]
        per_class=rows,
        map_points=_map(ctx, pool, left),
        map_names=_map_names(best, base),
        reach=_reach(ctx, pool, _REACH_SHARE * left),
        misclassified=_mistakes(study, ctx, best),
        surest=_grid(ctx, pool, surest=True),
        doubtful=_grid(ctx, pool, surest=False),
        environment=_environment(),
        command=_command(study),
        data=str(read_json(study.run.path / "request.json")["data"]),
        budget_seconds=study.config.seconds,
        notes=tuple(study.notes),
    )


@dataclass(frozen=True)
class _Pool:
    """Unlabeled images that are shown, and what both models say of them, (n, classes)."""

    images: ImageSet
    before: Probs
    after: Probs

    @property
    def ids(self) -> Sequence[str]:
        """Their names."""
        return self.images.ids


def _pool(study: Study, ctx: RungContext, best: RungName, base: RungName, seconds: float) -> _Pool:
    if not len(ctx.pool):
        empty = np.zeros((0, len(ctx.data.classes)), np.float32)
        return _Pool(ctx.pool, empty, empty)
    images = _shown(study, ctx, dict.fromkeys((best, base)), seconds)
    after = study.finals[best].predict(images).probs.numpy()
    before = after if best == base else study.finals[base].predict(images).probs.numpy()
    return _Pool(images, before, after)


def _shown(study: Study, ctx: RungContext, names: Iterable[RungName], seconds: float) -> ImageSet:
    """Return the unlabeled images that are shown: all, or as many as networks that were trained answer for in time."""
    trained = [made for made in map(study.finals.get, names) if isinstance(made, TrainedCandidate)]
    whole = len(ctx.pool)
    if not trained or whole <= SHOWN_LEAST:
        return ctx.pool
    order = pool_order(whole, ctx.config.seed)

    def first(count: int) -> ImageSet:
        return ctx.data.images(tuple(ctx.pool.ids[row] for row in np.sort(order[:count])))

    for made in trained:
        made.predict(first(1))  # the first call makes its network ready
    some, started = first(_POOL_TIMED), time.monotonic()
    for made in trained:
        made.predict(some)
    fits = int(seconds * _POOL_TIMED / (time.monotonic() - started))
    return ctx.pool if fits >= whole else first(max(fits, SHOWN_LEAST))


def _classes(
    study: Study, ctx: RungContext, best: RungName, base: RungName, tested: Tested
) -> tuple[NDArray[np.int64] | None, list[ClassRow], str]:
    """Count confusions on the test split where there is one (more images), else out of fold."""
    source = "test" if best in tested.confusion else "held-out"
    if source == "test":
        confusion, others = tested.confusion[best], tested.confusion[base]
    else:
        where, probs = study.evidence.probs(best)
        if not len(where):
            return None, [], source
        confusion = _counted(ctx, where, probs)
        # The budget may have cut the folds of one of the two: they are compared on what both named.
        there, base_probs = study.evidence.probs(base)
        _, _, both = np.intersect1d(where, there, return_indices=True)
        others = _counted(ctx, there[both], base_probs[both])
    rows = []
    for c, name in enumerate(ctx.data.classes):
        of, called, right = int(confusion[c].sum()), int(confusion[:, c].sum()), int(confusion[c, c])
        compared = int(others[c].sum())
        rows.append(
            ClassRow(
                name,
                of,
                right / called if called else None,
                right / of if of else None,
                int(others[c, c]) / compared if compared else None,
            )
        )
    return confusion, rows, source


def _counted(ctx: RungContext, where: NDArray[np.int64], probs: NDArray[np.float64]) -> NDArray[np.int64]:
    counted = np.zeros((len(ctx.data.classes),) * 2, np.int64)
    np.add.at(counted, (ctx.data.y[where], probs.argmax(1)), 1)
    return counted


def _mistakes(study: Study, ctx: RungContext, best: RungName) -> list[Thumb]:
    where, probs = study.evidence.probs(best)
    guess, truth = probs.argmax(1), ctx.data.y[where]
    wrong = np.flatnonzero(guess != truth)
    order = wrong[np.argsort(-probs[wrong, guess[wrong]], kind="stable")][:_GRID]
    names = ctx.data.classes
    return [
        Thumb(
            ctx.data.labeled_ids[where[i]],
            picture(ctx.data.reader.read, ctx.data.labeled_ids[where[i]], _GRID_SIDE),
            names[guess[i]],
            float(probs[i, guess[i]]),
            names[truth[i]],
        )
        for i in order
    ]


def _grid(ctx: RungContext, pool: _Pool, surest: bool) -> list[Thumb]:
    """Return the surest or the most doubtful pseudo-labels, every class in turn, so that one class cannot fill the grid."""
    if not pool.ids:
        return []
    guess, score = pool.after.argmax(1), pool.after.max(1)
    key = -score if surest else score
    order = np.argsort(key, kind="stable")
    rank = np.zeros(len(order), np.int64)
    for c in np.unique(guess):
        members = order[guess[order] == c]
        rank[members] = np.arange(len(members))
    picked = np.lexsort((key, rank))[:_GRID] if surest else order[:_GRID]
    return [
        Thumb(
            pool.ids[i],
            picture(ctx.data.reader.read, pool.ids[i], _GRID_SIDE),
            ctx.data.classes[guess[i]],
            float(score[i]),
        )
        for i in picked
    ]


def _map_names(best: RungName, base: RungName) -> tuple[str, str]:
    if best == base:
        return "Labels only", f"Labels only, chosen: {short_name(best)}"
    return f"Before: labels only, {short_name(base)}", f"After: chosen, {short_name(best)}"


def _map(ctx: RungContext, pool: _Pool, seconds: float) -> list[MapPoint]:
    space = spaces_of(ctx, None)[0]
    n = len(ctx.data.labeled_ids)
    picked = choose_map_points(
        np.arange(n),
        n + np.arange(len(pool.ids)),
        pool.after.argmax(1) if len(pool.ids) else None,
        seconds=_MAP_SHARE * seconds,
        seed=ctx.config.seed,
    )
    vectors = [ctx.bank.pooled(space, ctx.labeled, "labeled")]
    if pool.ids:
        vectors.append(ctx.bank.pooled(space, pool.images, "pool"))
    ctx.progress("cluster map", 0, 0)
    places = map_layout(np.concatenate(vectors)[picked], ctx.config.seed)
    thumbs = _map_thumbs(
        ctx, [ctx.data.labeled_ids[r] if r < n else pool.ids[r - n] for r in picked], seconds
    )
    names = ctx.data.classes
    points = []
    for (x, y), row in zip(places.tolist(), picked.tolist(), strict=True):
        if row < n:
            id_, label = ctx.data.labeled_ids[row], names[ctx.data.y[row]]
            points.append(MapPoint(x, y, id_, "labeled", label, label, 1.0, label, 1.0, thumbs.get(id_)))
            continue
        id_, before, after = pool.ids[row - n], pool.before[row - n], pool.after[row - n]
        points.append(
            MapPoint(
                x,
                y,
                id_,
                "unlabeled",
                None,
                names[int(before.argmax())],
                float(before.max()),
                names[int(after.argmax())],
                float(after.max()),
                thumbs.get(id_),
            )
        )
    return points


def _map_thumbs(ctx: RungContext, ids: Sequence[str], seconds: float) -> dict[str, bytes | None]:
    """Return pictures for the map: of the labeled images, which come first, then of others in a random order, while
    the time allows. Photos of many megapixels take far longer to read than to draw.
    """
    side = _MAP_SIDE if len(ids) <= _FULL_MAP else _SMALL_SIDE
    end, first = time.monotonic() + _PICTURES_SHARE * seconds, len(ctx.data.labeled_ids)
    others = np.random.default_rng(ctx.config.seed).permutation(np.arange(first, len(ids))).tolist()
    found: dict[str, bytes | None] = {}
    for done, position in enumerate([*range(min(first, len(ids))), *others]):
        if time.monotonic() > end:
            break
        ctx.progress("pictures", done, len(ids))
        found[ids[position]] = picture(ctx.data.reader.read, ids[position], side)
    return found


def _reach(ctx: RungContext, pool: _Pool, seconds: float) -> list[ReachRow]:
    """Measure reach without trespass on labeled images and, where these are few, on sure pseudo-labels beside them."""
    name, size = ctx.plan.backbones[0], ctx.plan.sizes[0]
    space = ctx.bank.space(name, size, "none")
    reference = [ctx.bank.pooled(space, ctx.labeled, "labeled")]
    ids, classes = list(ctx.data.labeled_ids), list(ctx.data.y)
    if pool.ids:
        reference.append(ctx.bank.pooled(space, pool.images, "pool"))
        ids += pool.ids
        classes += list(pool.after.argmax(1))
    sure = np.concatenate([np.ones(len(ctx.data.y)), pool.after.max(1)])
    rng = np.random.default_rng(ctx.config.seed)
    order = np.argsort(-(sure + 1e-6 * rng.random(len(sure))), kind="stable")
    # The surer half, drawn evenly: only the very surest would be the easiest images, which nothing moves.
    half = rng.permutation(order[: max(len(order) // 2, _REACH_IMAGES)])[:_REACH_IMAGES]
    embedder = ctx.bank.embedder(name, size)
    images: ImageSet = ctx.data.images(tuple(ids[i] for i in half))
    resize = embedder.preprocess.resize
    batch = torch.from_numpy(np.stack([resize(images.read(i)) for i in images.ids])).permute(0, 3, 1, 2)
    return measure_reach(
        batch.float() / 255,
        np.array([classes[i] for i in half]),
        lambda x: ctx.bank.embed_batch(name, size, x),
        np.concatenate(reference),
        np.array(classes),
        own=half,
        seed=ctx.config.seed,
        seconds=seconds,
        progress=ctx.progress,
    )


def _audit_thumbs(ctx: RungContext, audit: dict[str, Any]) -> dict[str, bytes | None]:
    named: list[str] = []
    for item in audit["skipped"]:
        named.append(item["id"])
    for part in ("leaks", "conflicts", "twins"):
        for item in audit[part]:
            named += item.get("ids", []) or [
                v for k, v in item.items() if isinstance(v, str) and k in ("id", "twin")
            ]
    return {
        id_: picture(ctx.data.reader.read, id_, _AUDIT_SIDE) for id_ in dict.fromkeys(named[:_AUDIT_THUMBS])
    }


def _environment() -> dict[str, Any]:
    names = ("torch", "timm", "onnxruntime", "numpy", "scikit-learn", "pillow")
    return {
        "fallow": __version__,
        "Python": platform.python_version(),
        **{name: version(name) for name in names},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _command(study: Study) -> str:
    data = read_json(study.run.path / "request.json")["data"]
    config = study.run.path / "config.yaml"
    out = f"{study.run.path}-again"
    return (
        f"fallow train {shlex.quote(str(data))} --config {shlex.quote(str(config))} --out {shlex.quote(out)}"
    )
