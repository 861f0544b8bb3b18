"""Images per second from image files to vectors on a CPU: fallow's Embedder against eager PyTorch.

    python benchmarks/embed_speed.py FOLDER [--count 256] [--size 160] [--rounds 3] [--out embed_speed.json]

All ways decode the same files with Pillow, resize to the same square and run the same EfficientNet-Lite0 (of
the ``offline`` extra). They take turns, round by round, so that a busy machine slows all of them; ratios are
medians over rounds of same-round ratios. Nothing is read from the vector cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from fallow.models import Embedder, Preprocess, load_backbone

BACKBONE = "tf_efficientnet_lite0"


def read(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def eager(files: list[str], size: int, channels_last: bool, overlap: bool) -> Callable[[], np.ndarray]:
    """Return a plain PyTorch loop: batches of 32, all cores in the network, decoding before or beside it."""
    backbone = load_backbone(BACKBONE, offline=True)
    preprocess = Preprocess(size, backbone.mean, backbone.std)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module = backbone.module.to(memory_format=layout)
    batches = [files[start : start + 32] for start in range(0, len(files), 32)]

    def load(batch: list[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([preprocess(read(path)) for path in batch]))

    def run() -> np.ndarray:
        with torch.inference_mode(), ThreadPoolExecutor(1) as pool:
            loaded = pool.map(load, batches) if overlap else map(load, batches)
            return np.concatenate([module(x.contiguous(memory_format=layout)).numpy() for x in loaded])

    return run


def embedder(files: list[str], size: int, graphs: Path) -> Callable[[], np.ndarray]:
    """Return the Embedder with an empty cache at each call; tracing is done before the clock starts."""
    backbone = load_backbone(BACKBONE, offline=True)

    def run() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "graphs").symlink_to(graphs)
            return Embedder(backbone, size, cache=Path(folder), device="cpu").embed(read, files, files)[:, 0]

    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of embedding on a CPU.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    kinds = {".jpg", ".jpeg", ".png", ".tif", ".bmp", ".webp"}
    files = sorted(str(path) for path in options.folder.rglob("*") if path.suffix.lower() in kinds)
    files = files[:: max(1, len(files) // options.count)][: options.count]
    with tempfile.TemporaryDirectory() as graphs:
        ways = {
            "eager": eager(files, options.size, channels_last=False, overlap=False),
            "eager, decoding beside": eager(files, options.size, channels_last=False, overlap=True),
            "channels_last, beside": eager(files, options.size, channels_last=True, overlap=True),
            "fallow": embedder(files, options.size, Path(graphs)),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        vectors = {}
        for _ in range(options.rounds):
            for name, run in ways.items():
                start = time.perf_counter()
                vectors[name] = run()
                rates[name].append(len(files) / (time.perf_counter() - start))
    reference = vectors["eager"]
    rows = {
        name: {
            "images_per_second": round(statistics.median(rate), 1),
            "times_eager": round(
                statistics.median(r / e for r, e in zip(rate, rates["eager"], strict=True)), 2
            ),
            "largest_difference": float(np.abs(vectors[name] - reference).max()),
        }
        for name, rate in rates.items()
    }
    threads = torch.get_num_threads()
    print(f"{len(files)} images at {options.size} px, {threads} threads, {options.rounds} rounds")
    print(f"{'':<24}{'images/s':>10}{'x eager':>10}{'largest difference':>22}")
    for name, row in rows.items():
        rate, times, off = row.values()
        print(f"{name:<24}{rate:>10.1f}{times:>10.2f}{off:>22.1e}")
    result = {
        "images": len(files),
        "size": options.size,
        "rounds": options.rounds,
        "threads": threads,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    else:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
