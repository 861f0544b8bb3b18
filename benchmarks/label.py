"""Automatic labels measured: does the stated precision hold, what is accepted, and what does it do for a plain training loop?

    python benchmarks/label.py SUITE --data DIR [--seeds 100-119] [--only ucmerced] [--kinds plain,skewed]

Suites: ``dev`` (development splits, seeds 0-9: what settings were chosen on), ``final`` (final split, seeds 100-119). A cell
is one draw of labels and pool: the cheap rungs are climbed once, and the pool is labeled at several precisions and coverages from
the same answers, then compared with the classes that nobody had seen. Cells in ``results/label-<suite>.jsonl`` are skipped, so that
a stopped run goes on. ``python benchmarks/label.py table --data DIR`` prints what they say.

In each row: ``at`` (what was asked -> stated value, low, high; revealed precision; accepted; accepted images of no class),
``fixed`` and ``fixed_labels_only`` (the softmax of the very model that labels, and of the labels-only model, above 0.95, as
pseudo-labels are usually taken: coverage and revealed precision; and what fallow accepts at that very precision), ``loops`` (test accuracy of plain PyTorch loops on the labels alone and on the enriched set).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from protocol import RESULTS, Known, draw, load, read_rows, seeds_of, suite_parser

PRECISIONS = (0.85, 0.9, 0.95, 0.98)
COVERAGES = (0.5, 0.8)
CERTIFIED = (0.9, 0.95)
FIXED = 0.95
REPEATS = 2
"""Of the folds: half of what a user gets, for the time it takes."""
FOREIGN = {"ucmerced": "clothing", "clothing": "ucmerced", "cifar10": "clothing"}


@dataclass(frozen=True)
class Cell:
    """One experiment."""

    kind: str
    data: str
    per_class: int
    seed: int
    split: str
    imbalance: float = 1.0
    pool: int | None = None
    foreign: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.split}/{self.kind}/{self.data}/{self.per_class}/{self.imbalance:g}:1/{self.pool or 'all'}/{self.foreign:g}/{self.seed}"


def cells(seeds: list[int], split: str) -> Iterator[Cell]:
    """Yield the cells, one draw of all data sets after the other."""
    for seed in seeds:
        yield Cell("plain", "ucmerced", 5, seed, split)
        yield Cell("plain", "ucmerced", 10, seed, split)
        yield Cell("plain", "clothing", 20, seed, split)
        yield Cell("skewed", "ucmerced", 5, seed, split, 30.0)
        yield Cell("skewed", "ucmerced", 10, seed, split, 10.0)
        yield Cell("skewed", "digits", 10, seed, split, 10.0)
        yield Cell("foreign", "ucmerced", 10, seed, split, foreign=0.2)
        yield Cell("foreign", "clothing", 20, seed, split, foreign=0.2)
        yield Cell("plain", "cifar10", 25, seed, split, pool=10_000)


SUITES = {"dev": range(10), "final": range(100, 120), "table": range(0)}


def measure(cell: Cell, known: Known, others: Known | None, work: Path) -> dict[str, Any]:
    """Label one pool and return the row."""
    from fallow.config import LabelConfig
    from fallow.data import open_source
    from fallow.record import RunDir, write_json
    from fallow.study import Clock, Study
    from fallow.study.labeling.answers import of_ladder
    from fallow.study.labeling.session import judge

    drawn = draw(
        known,
        cell.per_class,
        cell.seed,
        cell.split,
        imbalance=cell.imbalance,
        pool=cell.pool,
        foreign=others,
        foreign_fraction=cell.foreign,
    )
    table = work / "data.csv"
    drawn.write_csv(table)
    common: dict[str, Any] = {
        "seed": cell.seed,
        "offline": True,
        "budget": "2h",
        "choose": {"repeats": REPEATS},
    }
    config = LabelConfig(**common)
    run = RunDir.create(work / "run")
    write_json(run.path / "request.json", {"data": str(table), "config": {}})
    study = Study(open_source(table), config.ladder(), run, Clock(config.seconds), without_prior=cell.data)
    spent = [time.process_time()]
    ctx, best = study.rise()
    spent.append(time.process_time())
    answers = of_ladder(study, ctx, best)
    spent.append(time.process_time())
    hidden = {str(path): name for path, name in drawn.pool}
    truth = np.array([hidden[str(id_)] for id_ in ctx.pool.ids], object)

    def asked(**options: Any) -> dict[str, Any]:
        made = judge(ctx, LabelConfig(**common, **options), answers)
        pool, summary = made.labels.pool, made.summary
        rows = pool.where("accept")
        named = np.asarray(pool.classes, object)[pool.guess[rows]]
        own = truth[rows] != ""
        stated = summary.precision
        return {
            "stated": None
            if stated is None
            else [round(v, 5) for v in (stated.value, stated.low, stated.high)],
            "revealed": round(float((named == truth[rows])[own].mean()), 5) if own.any() else None,
            "accepted": len(rows),
            "accepted_foreign": int((~own).sum()),
            "foreign": summary.foreign,
            "certified": summary.certified,
        }

    at = {f"precision {p:g}": asked(precision=p) for p in PRECISIONS}
    at |= {f"coverage {c:g}": asked(coverage=c) for c in COVERAGES}
    at |= {f"certify {p:g}": asked(precision=p, certify=True) for p in CERTIFIED}
    if cell.foreign:
        at["precision 0.95 unfiltered"] = asked(foreign="keep")
    enriched = judge(ctx, LabelConfig(**common), answers).labels
    spent.append(time.process_time())
    trained = loops(study, ctx, best, enriched)
    spent.append(time.process_time())
    return {
        "key": cell.key,
        **{
            k: getattr(cell, k)
            for k in ("kind", "data", "per_class", "seed", "split", "imbalance", "pool", "foreign")
        },
        "rung": best,
        "held_out": answers.held_out.labels,
        "images": len(ctx.pool),
        "at": at,
        "fixed": fixed(study.fitted[best].predict(ctx.pool).probs.numpy(), enriched.pool, truth),
        "fixed_labels_only": fixed(
            study.fitted["probe"].predict(ctx.pool).probs.numpy(), enriched.pool, truth
        ),
        "loops": trained,
        "cpu_seconds": dict(
            zip(("climb", "answers", "judge", "loops"), np.diff(spent).round(1).tolist(), strict=True)
        ),
    }


def fixed(probs: np.ndarray, pool: Any, truth: np.ndarray) -> dict[str, Any]:
    """Take what the model's own softmax says at 0.95 and more, and as many of fallow's surest as are right as often."""
    known = truth != ""
    names = np.asarray(pool.classes, object)
    sure = (probs.max(1) >= FIXED) & known
    if not sure.any():
        return {"coverage": 0.0, "revealed": None, "fallow": 0.0}
    revealed = float((names[probs.argmax(1)] == truth)[sure].mean())
    order = np.argsort(-pool.probability[known], kind="stable")
    right = (names[pool.guess] == truth)[known][order]
    means = np.cumsum(right) / np.arange(1, len(right) + 1)
    there = np.flatnonzero(means >= revealed)
    return {
        "coverage": round(float(sure.sum() / known.sum()), 5),
        "revealed": round(revealed, 5),
        "fallow": round(float((there[-1] + 1) / known.sum()) if len(there) else 0.0, 5),
    }


def loops(study: Any, ctx: Any, best: str, labels: Any) -> dict[str, float]:
    """Train plain PyTorch loops on the labels alone and on the enriched set, and score all on the test split."""
    from fallow.export.labels.dataset import LabelDataset
    from fallow.study.spaces import spaces_of

    test = ctx.data.images(ctx.data.test_ids)
    y = ctx.data.test_classes()
    found = {best: float((study.finals[best].predict(test).probs.numpy().argmax(1) == y).mean())}
    if "propagate" in study.finals:
        found["propagate"] = float(
            (study.finals["propagate"].predict(test).probs.numpy().argmax(1) == y).mean()
        )
    space = spaces_of(ctx, None)[0]
    rows = {id_: row for row, id_ in enumerate((*ctx.labeled.ids, *ctx.pool.ids))}
    vectors = np.concatenate(
        [ctx.bank.pooled(space, ctx.labeled, "labeled"), ctx.bank.pooled(space, ctx.pool, "pool")]
    )
    tested = ctx.bank.pooled(space, test, "test")
    sets = {
        "labels": LabelDataset(labels, unlabeled_weight=0.0),
        "enriched": LabelDataset(labels),
        "soft": LabelDataset(labels, targets="soft", take="all"),
    }
    for name, data in sets.items():
        keep = np.flatnonzero(data.weights.numpy() > 0)
        features = vectors[[rows[data.ids[k]] for k in keep]]
        found[f"head/{name}"] = head(
            features, data.targets[keep], data.weights[keep], tested, y, ctx.config.seed
        )
        if ctx.data.audit.channels == "gray":
            pixels = np.stack([ctx.data.reader.read(data.ids[k])[..., 0] for k in keep])
            seen = np.stack([test.read(id_)[..., 0] for id_ in test.ids])
            found[f"net/{name}"] = net(
                pixels, data.targets[keep], data.weights[keep], seen, y, ctx.config.seed
            )
    return {name: round(value, 5) for name, value in found.items()}


def head(features: Any, targets: Any, weights: Any, tested: Any, y: np.ndarray, seed: int) -> float:
    """A linear head on frozen vectors, as anybody would write it."""
    import torch

    torch.manual_seed(seed)
    x, t = (torch.nn.functional.normalize(torch.from_numpy(np.asarray(v))) for v in (features, tested))
    mean, std = x.mean(0), x.std(0) + 1e-6
    return fitted(
        torch.nn.Linear(x.shape[1], targets_width(targets, y)),
        (x - mean) / std,
        targets,
        weights,
        (t - mean) / std,
        y,
        1e-3,
        60,
    )


def net(images: Any, targets: Any, weights: Any, tested: Any, y: np.ndarray, seed: int) -> float:
    """A small network from scratch, as anybody would write it."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    x, t = (torch.from_numpy(v).float()[:, None] / 255 for v in (images, tested))
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, targets_width(targets, y)),
    )  # fmt: skip
    return fitted(model, x, targets, weights, t, y, 2e-3, 40)


def targets_width(targets: Any, y: np.ndarray) -> int:
    return int(targets.shape[1]) if targets.ndim == 2 else int(max(int(targets.max()), int(y.max())) + 1)


def fitted(
    model: Any, x: Any, targets: Any, weights: Any, tested: Any, y: np.ndarray, rate: float, epochs: int
) -> float:
    """Train with AdamW on weighted cross-entropy, at least 600 steps, and return the accuracy on the test images."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    epochs = max(epochs, -(-600 * 64 // len(x)))
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            if len(rows) < 2:
                continue
            loss = torch.nn.functional.cross_entropy(model(x[rows]), targets[rows], reduction="none")
            loss = (weights[rows] * loss).sum() / weights[rows].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        return float((model(tested).argmax(1).numpy() == y).mean())


def tell(suite: str) -> None:
    """Print what the finished cells say."""
    from scipy.stats import binomtest

    rows = read_rows(f"label-{suite}")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["data"], row["per_class"], row["imbalance"]), []).append(row)
    inside = total = 0
    for key, members in groups.items():
        print(
            f"\n{suite}: {' '.join(map(str, key))}, {len(members)} draws, {members[0]['held_out']} held-out labels, {members[0]['images']} in the pool"
        )
        for name in members[0]["at"]:
            found = [row["at"][name] for row in members]
            told = [f for f in found if f["stated"] is not None and f["revealed"] is not None]
            if not told:
                print(f"  {name:26} nothing accepted")
                continue
            low, high, real = (
                np.array([f[k] if isinstance(k, str) else f["stated"][k] for f in told])
                for k in (1, 2, "revealed")
            )
            hit = (low <= real) & (real <= high)
            if name == "precision 0.95":
                inside, total = inside + int(hit.sum()), total + len(hit)
            share = np.mean([f["accepted"] / row["images"] for f, row in zip(found, members, strict=True)])
            strange = sum(f["accepted_foreign"] for f in found) / max(sum(f["accepted"] for f in found), 1)
            print(
                f"  {name:26} covered {hit.sum()}/{len(hit)}, width {np.mean(high - low):.3f}, stated {np.mean([f['stated'][0] for f in told]):.3f}, "
                f"revealed {real.mean():.3f} (least {real.min():.3f}), accepted {share:.3f}"
                + (f", foreign {strange:.4f}" if key[0] == "foreign" else "")
            )
        for name in ("fixed", "fixed_labels_only"):
            one = [row[name] for row in members if row[name]["revealed"] is not None]
            if one:
                cover, real, ours = (np.mean([f[k] for f in one]) for k in ("coverage", "revealed", "fallow"))
                print(
                    f"  {name}: softmax >= 0.95 takes {cover:.3f} at {real:.3f}; fallow at the same precision {ours:.3f}"
                )
        for loop in ("head", "net"):
            if any(f"{loop}/labels" not in row["loops"] for row in members):
                continue
            base, rich, soft, top = (
                np.array([row["loops"].get(name, np.nan) for row in members])
                for name in (f"{loop}/labels", f"{loop}/enriched", f"{loop}/soft", "propagate")
            )
            print(
                f"  {loop}: labels only {base.mean():.3f}, enriched {rich.mean():.3f}, soft {soft.mean():.3f}, propagate {top.mean():.3f}: kept {(rich - base).mean() / (top - base).mean():.0%}, soft {(soft - base).mean() / (top - base).mean():.0%}"
            )
    if total:
        print(
            f"\nprecision 0.95, all: {inside}/{total} stated intervals cover, P(as few | 95 %) = {binomtest(inside, total, 0.95, alternative='less').pvalue:.3f}"
        )


def main() -> None:
    parser = suite_parser(__doc__, SUITES)
    parser.add_argument("--kinds", help="plain, skewed, foreign; comma separated")
    options = parser.parse_args()
    if options.suite == "table":
        for suite in ("dev", "final"):
            tell(suite)
        return
    seeds = seeds_of(options.seeds, SUITES[options.suite])
    wanted = [
        cell
        for cell in cells(list(seeds), options.suite)
        if (not options.only or cell.data in options.only.split(","))
        and (not options.kinds or cell.kind in options.kinds.split(","))
    ]
    known: dict[str, Known] = {}
    for number, cell in enumerate(wanted, start=1):
        if cell.key in {row["key"] for row in read_rows(f"label-{options.suite}")}:
            continue
        for name in (cell.data, FOREIGN[cell.data]) if cell.foreign else (cell.data,):
            if name not in known:
                known[name] = load(name, options.data.resolve())
        work, started = Path(tempfile.mkdtemp(prefix="fallow-bench-")), time.monotonic()
        try:
            row = measure(cell, known[cell.data], known[FOREIGN[cell.data]] if cell.foreign else None, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"label-{options.suite}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        told = row["at"]["precision 0.95"]
        print(
            f"{number}/{len(wanted)} {cell.key}: stated {told['stated']}, revealed {told['revealed']}, accepted {told['accepted']}/{row['images']} ({time.monotonic() - started:.0f} s, {row['cpu_seconds']})",
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
