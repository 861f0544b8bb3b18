"""What runs a backbone on batches: ONNX Runtime on a CPU, torch on a GPU, nothing at all for ``pixels``."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fallow.errors import ConfigError, RunError
from fallow.models.backbones import PIXELS, Backbone
from fallow.models.graph import GRAPH_INPUT, PixelsToFeatures, backbone_graph, graph_path
from fallow.models.preprocess import Preprocess

CPU_BATCH = 8
"""Images per call on a CPU: more does not make the network faster, and threads stay evenly loaded."""

Pixels = NDArray[np.uint8]


class Engine(Protocol):
    """Runs batches of one fixed shape.

    Attributes:
        name: Part of the cache key: other engines round otherwise.
        batch: Images per call.
        parallel: True when calls from several threads run at the same time.
    """

    name: str
    batch: int
    parallel: bool

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return features (batch, dim) of (batch, S, S, 3) uint8 pixels; from any thread."""


class PixelsEngine:
    """No network: the shrunk image is the vector."""

    name, batch, parallel = "pixels", 256, True

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the pixels themselves, in 0..1."""
        return Preprocess(pixels.shape[1]).normalize(pixels).reshape(len(pixels), -1)


class OnnxEngine:
    """ONNX Runtime, one core per call: several calls side by side beat one call on several cores."""

    batch, parallel = CPU_BATCH, True

    def __init__(self, backbone: Backbone, size: int, cache: Path) -> None:
        import onnxruntime as ort

        self.name = f"onnx-{ort.__version__}"
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = backbone_graph(backbone, size, cache)
        path = graph_path(backbone, size, cache)
        source = str(path) if path.is_file() else model.SerializeToString()
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return features (batch, dim); the session is safe to share."""
        features: NDArray[np.float32] = self._session.run(None, {GRAPH_INPUT: pixels})[0]
        return features


class TorchEngine:
    """torch, for accelerators and for what ONNX cannot express or is not worth tracing for; one call at a time."""

    parallel = False

    def __init__(self, backbone: Backbone, size: int, device: str, batch: int | None = None) -> None:
        import torch

        self.name = f"torch-{device}"
        self.batch = batch or (CPU_BATCH if device == "cpu" else max(8, min(64, 64 * 224**2 // size**2)))
        self._torch, self._device = torch, torch.device(device)
        # A copy, because moving a module moves it in place, and the backbone is shared.
        network = copy.deepcopy(PixelsToFeatures(backbone, size)).to(self._device)
        self._network = network.to(memory_format=torch.channels_last)
        self._lock = threading.Lock()

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return features (batch, dim), in half precision on CUDA."""
        torch = self._torch
        batch = torch.from_numpy(pixels).to(self._device)
        with self._lock, torch.inference_mode():
            if self._device.type == "cuda":
                with torch.autocast("cuda", torch.float16):
                    features = self._network(batch)
                # Half precision ends at 65,504. A network that goes beyond is run again in full precision,
                # and only the rows that need it are replaced: no image depends on its neighbors in the batch.
                over = ~torch.isfinite(features).all(1)
                if bool(over.any()):
                    features = torch.where(over[:, None], self._network(batch), features)
            else:
                features = self._network(batch)
            return np.asarray(features.float().cpu().numpy(), np.float32)


def make_engine(backbone: Backbone, size: int, graphs: Path, device: str, *, eager: bool = False) -> Engine:
    """Return the engine for ``backbone`` at ``size``.

    Args:
        backbone: The network.
        size: Side in pixels.
        graphs: Directory that keeps ONNX graphs between runs.
        device: ``cpu``, ``cuda`` or ``mps``.
        eager: Start at once, for a few images: tracing a graph for ONNX Runtime, which is faster, takes seconds.
    """
    if backbone.name == PIXELS:
        return PixelsEngine()
    if device != "cpu":
        return TorchEngine(backbone, size, device)
    if eager:
        return TorchEngine(backbone, size, device, max(CPU_BATCH, min(128, 128 * 32**2 // size**2)))
    try:
        return OnnxEngine(backbone, size, graphs)
    except RunError:  # a network that ONNX cannot express can still be embedded with; export will say so
        return TorchEngine(backbone, size, "cpu")


def device_name() -> str:
    """Return what ``auto`` stands for on this machine: ``cuda``, ``mps`` or ``cpu``, with the GPU's name."""
    import torch

    device = pick_device("auto")
    return f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device


def pick_device(asked: str) -> str:
    """Return the device that ``asked`` (``auto``, ``cpu``, ``cuda``, ``mps``) stands for.

    Raises:
        ConfigError: There is no such device, here or at all.
    """
    if asked not in ("auto", "cpu", "cuda", "mps"):
        raise ConfigError(f"the device cannot be '{asked}': use auto, cpu, cuda or mps")
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if asked == "cuda" and not torch.cuda.is_available():
        raise ConfigError("the device 'cuda' is not there (torch sees no CUDA GPU): use --device cpu or auto")
    if asked == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("the device 'mps' is not there (torch sees no Apple GPU): use --device cpu or auto")
    return asked
