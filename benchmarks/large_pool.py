"""A pool of 100,000 images: memory, time, and what approximate neighbors cost in accuracy.

    python benchmarks/large_pool.py [--pool 100000]

The vectors are synthetic (1,280 dimensions, classes of several clusters with heavy overlap), since what is measured is
the machinery behind the embedding. Below 20,000 images all pairs are compared; the same 20,000 are done both ways.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from fallow.methods import find_neighbors, prepare_inputs, propagate
from fallow.models import fit_feature_map

RESULTS = Path(__file__).parent / "results" / "large_pool.json"
DIM, CLASSES, CLUSTERS, PER_CLASS = 1280, 50, 4, 5


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def make(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(64, DIM)).astype(np.float32) / 8
    centers = rng.normal(size=(CLASSES * CLUSTERS, 64)).astype(np.float32)
    cluster = rng.integers(0, len(centers), n)
    x = np.empty((n, DIM), np.float32)
    for start in range(0, n, 10_000):
        part = cluster[start : start + 10_000]
        low = centers[part] + 0.9 * rng.normal(size=(len(part), 64)).astype(np.float32)
        x[start : start + 10_000] = low @ basis + 0.1 * rng.normal(size=(len(part), DIM)).astype(np.float32)
    return x, cluster // CLUSTERS


def whole(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Prepare and propagate; report time and accuracy on the pool (transductive: this is no test accuracy)."""
    labels = np.full(len(x), -1)
    rng = np.random.default_rng(1)
    for c in range(CLASSES):
        labels[rng.permutation(np.flatnonzero(y == c))[:PER_CLASS]] = c
    started = time.monotonic()
    inputs = prepare_inputs(x, labels < 0)
    prepared = time.monotonic()
    done = propagate(inputs, labels, CLASSES)
    right = float((done.probs.argmax(1) == y[labels < 0]).mean())
    return {
        "images": len(x),
        "prepare_seconds": round(prepared - started, 1),
        "propagate_seconds": round(time.monotonic() - prepared, 1),
        "pool_accuracy": round(right, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pool", type=int, default=100_000)
    count = parser.parse_args().pool
    x, y = make(count)
    result: dict[str, Any] = {"vectors_gib": round(x.nbytes / 2**30, 2), "all": whole(x, y)}
    result["all"]["peak_gib"] = round(peak_gib(), 2)
    print(result, flush=True)
    some = fit_feature_map(x[:20_000]).transform(x[:20_000])
    exact, near = (find_neighbors(some, 10, exact=way) for way in (True, False))
    shared = [len(set(a) & set(b)) for a, b in zip(exact.index.tolist(), near.index.tolist(), strict=True)]
    result["recall_at_10_of_20000"] = round(float(np.mean(shared)) / 10, 4)
    print(result)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
