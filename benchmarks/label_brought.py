"""Models that people bring to `fallow label`: does the stated precision hold of networks that nobody calibrated?

    python benchmarks/label_brought.py dev --data DIR [--seeds 0-4]
    python benchmarks/label_brought.py table --data DIR

Each model is trained by a plain PyTorch loop, as anybody would write it, on labels of its own; it then names a pool, and a few other
labels are held out to judge it. What is stated at a precision of 0.95 is compared with what is revealed, for the belief that fallow
has of models from elsewhere (they are too sure) and for the one it has of its own (they are as sure as they are right). Development
draws; rows go to ``results/label-brought.jsonl``, and cells that are there are not measured again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from protocol import RESULTS, Known, draw, load, read_rows, seeds_of, suite_parser

NAME = "label-brought"
CELLS = (("ucmerced", 10), ("clothing", 20), ("fashion", 20), ("digits", 5))
"""Data sets with the labels a class that a model learns from; as many are left to judge it."""
HELD = (10, 30, 100)
TARGET = 0.95
POOL = 2000
SUITES = {"dev": range(5), "table": range(0)}
Floats = NDArray[np.float32]


def vectors_of(files: list[Path]) -> tuple[Floats, Floats | None]:
    """Return what a frozen network sees of photos, or the pixels of small gray images, (n, d), and these as images."""
    from PIL import Image

    from fallow.data import cache_dir
    from fallow.models import Embedder, load_backbone

    with Image.open(files[0]) as first:
        small = max(first.size) <= 64
    if small:
        pixels = np.stack([np.asarray(Image.open(f).convert("L"), np.float32) / 255 for f in files])
        return pixels.reshape(len(pixels), -1), pixels[:, None]
    embedder = Embedder(load_backbone("tf_efficientnet_lite0"), 160, cache=cache_dir())
    resized = [embedder.preprocess.resize(np.asarray(Image.open(f).convert("RGB"))) for f in files]
    return embedder.embed_pixels(np.stack(resized)), None


def models(
    x: Floats, images: Floats | None, y: NDArray[np.int64], train: slice
) -> Iterator[tuple[str, Floats]]:
    """Yield name and probabilities of all images by each model, trained on the rows of ``train``."""
    import torch
    from torch import nn

    classes = int(y.max()) + 1
    flat = torch.from_numpy((x - x[train].mean(0)) / (x[train].std(0) + 1e-3))
    yield "linear, trained long", asked(fitted(nn.Linear(flat.shape[1], classes), flat, y, train, 600), flat)
    yield "linear, early", asked(fitted(nn.Linear(flat.shape[1], classes), flat, y, train, 30), flat)
    wide = nn.Sequential(nn.Linear(flat.shape[1], 256), nn.ReLU(), nn.Linear(256, classes))
    yield "two layers", asked(fitted(wide, flat, y, train, 300), flat)
    smooth = nn.Sequential(nn.Linear(flat.shape[1], 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, classes))
    yield "two layers, smoothed labels", asked(fitted(smooth, flat, y, train, 300, smoothing=0.1), flat)
    if images is not None:
        small = torch.from_numpy(images)
        net = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Linear(256, classes),
        )  # fmt: skip
        yield "convolutions", asked(fitted(net, small, y, train, 300), small)


def fitted(net: Any, x: Any, y: NDArray[np.int64], train: slice, steps: int, smoothing: float = 0.0) -> Any:
    """Train with AdamW on cross-entropy, batches of 64."""
    import torch

    rows, target = x[train], torch.from_numpy(y[train])
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    net.train()
    for _ in range(steps):
        batch = torch.randperm(len(rows))[:64]
        loss = torch.nn.functional.cross_entropy(net(rows[batch]), target[batch], label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def asked(net: Any, x: Any) -> Floats:
    """Return probabilities (n, classes)."""
    import torch

    with torch.inference_mode():
        return np.concatenate([net(part).softmax(1).numpy() for part in x.split(512)])


def measure(known: Known, per_class: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each model and number of held-out labels."""
    import torch

    from fallow.study.evidence import tempered
    from fallow.study.labeling.evidence import HeldOut
    from fallow.study.labeling.reliability import Reliability
    from fallow.study.labeling.threshold import by_precision

    drawn = draw(known, 2 * per_class, seed, "dev", pool=POOL)
    names = sorted({c for _, c in drawn.labeled})
    rng = np.random.default_rng(seed)
    own, held = [], []
    for name in names:
        mine = [row for row in drawn.labeled if row[1] == name]
        own += mine[:per_class]
        held += mine[per_class:]
    held = [held[i] for i in rng.permutation(len(held))]
    everything = [*own, *held, *drawn.pool]
    y = np.array([names.index(c) for _, c in everything], np.int64)
    x, images = vectors_of([f for f, _ in everything])
    torch.manual_seed(seed)
    for model, probs in models(x, images, y, slice(0, len(own))):
        pool = probs[len(own) + len(held) :]
        right = pool.argmax(1) == y[len(own) + len(held) :]
        row: dict[str, Any] = {
            "model": model, "accuracy": round(float(right.mean()), 4), "sure": round(float(pool.max(1).mean()), 4)
        }  # fmt: skip
        for count in HELD:
            some = slice(len(own), len(own) + min(count, len(held)))
            where, truth = np.arange(some.stop - some.start), y[some]
            plain = HeldOut(where, probs[some].astype(np.float64), truth, calibrated=False)
            temperature = plain.temperature()
            evidence, told = plain.tempered(temperature), tempered(pool, temperature)
            for name, calibrated in (("strange", False), ("own", True)):
                fit = Reliability.fit(replace(evidence, calibrated=calibrated))
                probability = fit.probability(told)
                taken = by_precision(probability, np.ones(len(pool), bool), TARGET).accepted
                made: dict[str, Any] = {"accepted": round(float(taken.mean()), 4)}
                if taken.any():
                    stated = fit.precision(told[taken])
                    made |= {
                        "stated": [round(v, 4) for v in (stated.value, stated.low, stated.high)],
                        "revealed": round(float(right[taken].mean()), 4),
                    }
                row[f"{count} {name}"] = made
        yield row


def tell() -> None:
    """Print how often the stated interval held, by data set and by model."""
    rows = read_rows(NAME)
    for what in ("data", "model"):
        for value in dict.fromkeys(row[what] for row in rows):
            mine = [row for row in rows if row[what] == value]
            head = f"{value}: right {np.mean([r['accuracy'] for r in mine]):.3f}, sure {np.mean([r['sure'] for r in mine]):.3f}"
            print(head)
            for count in HELD:
                for belief in ("strange", "own"):
                    made = [row[f"{count} {belief}"] for row in mine]
                    told = [m for m in made if "stated" in m]
                    inside = sum(m["stated"][1] <= m["revealed"] <= m["stated"][2] for m in told)
                    over = sum(m["revealed"] < m["stated"][1] for m in told)
                    width = np.mean([m["stated"][2] - m["stated"][1] for m in told]) if told else float("nan")
                    share = np.mean([m["accepted"] for m in made])
                    print(
                        f"  {count:>4} labels, believed {belief:8}: held {inside}/{len(told)}, too high {over}, width {width:.3f}, accepted {share:.3f}"
                    )


def main() -> None:
    options = suite_parser(__doc__, SUITES).parse_args()
    if options.suite == "table":
        tell()
        return
    done = {(r["data"], r["seed"]) for r in read_rows(NAME)}
    for data, per_class in CELLS:
        if options.only and data not in options.only.split(","):
            continue
        known = load(data, options.data.resolve())
        for seed in seeds_of(options.seeds, SUITES[options.suite]):
            if (data, seed) in done:
                continue
            rows = [
                {"data": data, "per_class": per_class, "seed": seed, **row}
                for row in measure(known, per_class, seed)
            ]
            with (RESULTS / f"{NAME}.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            print(data, seed, [(row["model"], row["accuracy"], row["sure"]) for row in rows], flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
