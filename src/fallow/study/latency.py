"""How long one image takes a model, from its pixels to its answer, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from fallow.data import cores
from fallow.export import IMAGE, PROBS

Answer = Callable[[NDArray[np.uint8]], object]
"""Answers one image, uint8 (H, W, 3), alone."""
_LEAST_RUNS, _MOST_RUNS, _SECONDS = 5, 30, 0.4


def through_graph(graph: onnx.ModelProto | Path) -> Answer:
    """Return what answers one image through an exported graph, in ONNX Runtime on all cores."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3
    given = str(graph) if isinstance(graph, Path) else graph.SerializeToString()
    session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run([PROBS], {IMAGE: image})


def latency_ms(answer: Answer, image: NDArray[np.uint8]) -> float:
    """Return the milliseconds that one image takes: the median of several runs.

    Args:
        answer: Answers it.
        image: uint8 (H, W, 3).
    """
    times: list[float] = []
    answer(image)
    while len(times) < _LEAST_RUNS or (sum(times) < _SECONDS and len(times) < _MOST_RUNS):
        begun = time.perf_counter()
        answer(image)
        times.append(time.perf_counter() - begun)
    return 1000 * float(np.median(times))


def time_side_by_side(
    models: Mapping[str, Answer], image: NDArray[np.uint8], rounds: int = 3
) -> dict[str, float]:
    """Return the milliseconds an image of each: the least of several medians taken in turn, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, answer in models.items():
            times[name].append(latency_ms(answer, image))
    return {name: min(found) for name, found in times.items()}
