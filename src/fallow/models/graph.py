"""A backbone as an ONNX graph: what embedding on a CPU and the exported model both run."""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from fallow.errors import RunError
from fallow.models.backbones import PIXELS, Backbone
from fallow.models.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 18, 10
"""Old enough for every ONNX Runtime since 1.20."""

INLINE_LIMIT = 1_500_000_000
"""Protocol buffers end at 2 GB; models above this keep their tensors in a second file."""

GRAPH_INPUT, GRAPH_OUTPUT = "pixels", "features"

_REMEMBERED_BYTES = 500_000_000
_made: dict[tuple[object, ...], onnx.ModelProto] = {}


class PixelsToFeatures(nn.Module):
    """Normalization and backbone in one: uint8 (N, S, S, 3) pixels to float32 (N, dim) features."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, backbone: Backbone, size: int) -> None:
        super().__init__()
        scale, shift = Preprocess(size, backbone.mean, backbone.std).scale_shift()
        self.register_buffer("scale", torch.from_numpy(scale).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.from_numpy(shift).view(1, 3, 1, 1))
        self.module = backbone.at_size(size)
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features (N, dim) of uint8 pixels (N, S, S, 3)."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        features: torch.Tensor = self.module(x)
        return features.to(torch.float32)


def backbone_graph(backbone: Backbone, size: int, cache: Path | None = None) -> onnx.ModelProto:
    """Return ``backbone`` at ``size`` as ONNX: ``pixels`` uint8 (N, S, S, 3) -> ``features`` float32 (N,
    dim).

    The batch dimension is dynamic. Tracing takes seconds, so the graph is remembered, in memory and in
    ``cache``.

    Args:
        backbone: The network.
        size: Side of the square, in pixels.
        cache: Directory that keeps graphs between runs; not those of networks that a run trained, which no other will
            ask for.

    Raises:
        ConfigError: The backbone cannot take this size.
        RunError: The network cannot be expressed in ONNX.
    """
    size = backbone.fit_size(size)
    if backbone.name == PIXELS:
        return _pixels_graph(size)
    key = _identity(backbone, size)
    if key not in _made:
        _made[key] = (
            _trace(backbone, size) if cache is None or backbone.trained else _cached(backbone, size, cache)
        )
        while len(_made) > 1 and sum(model.ByteSize() for model in _made.values()) > _REMEMBERED_BYTES:
            del _made[next(iter(_made))]
    return _made[key]


def _identity(backbone: Backbone, size: int) -> tuple[object, ...]:
    return backbone.name, backbone.weights_id, size, backbone.mean, backbone.std


def graph_path(backbone: Backbone, size: int, cache: Path) -> Path:
    """Return where ``cache`` keeps the graph; its name changes with whatever could change it."""
    import onnx

    versions = OPSET, torch.__version__, onnx.__version__, "graph-2"
    parts = (*_identity(backbone, size), *versions)
    return cache / f"{hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()}.onnx"


def _cached(backbone: Backbone, size: int, cache: Path) -> onnx.ModelProto:
    import onnx
    from filelock import FileLock

    path = graph_path(backbone, size, cache)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # a second process waits for the first one's graph
        if path.is_file():
            try:
                model = onnx.load(path)
                onnx.checker.check_model(model)
                return model
            except Exception:  # damaged on disk: whatever the parser said, a new one is the cure
                path.unlink(missing_ok=True)
        model = _trace(backbone, size)
        save_graph(model, path)
    return model


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` to ``path``, atomically; above 1.5 GB its tensors go to ``<path>.data`` beside it."""
    import onnx

    from fallow.record.rundir import atomic_path

    if model.ByteSize() < INLINE_LIMIT:
        with atomic_path(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
    else:
        onnx.save_model(
            model,
            path,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=f"{path.name}.data",
        )


def _trace(backbone: Backbone, size: int) -> onnx.ModelProto:
    network = PixelsToFeatures(backbone, size)
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[GRAPH_INPUT],
                output_names=[GRAPH_OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            )
    except Exception as error:  # the exporter wraps whatever the network raised while being traced
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise RunError(
            f"the network '{backbone.name}' cannot be written as ONNX at {size} pixels ({reason}): "
            "take data-dependent Python branches out of its forward"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model.graph)
    return model


def _strip(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes: they hold stack traces with the paths of this machine."""
    for node in graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    graph.ClearField("value_info")
    graph.ClearField("metadata_props")


def _pixels_graph(size: int) -> onnx.ModelProto:
    """Return the graph of the ``pixels`` backbone, by hand: tracing four nodes would take seconds."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Transpose", [GRAPH_INPUT], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["values", "scale"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], [GRAPH_OUTPUT], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info(GRAPH_INPUT, TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info(GRAPH_OUTPUT, TensorProto.FLOAT, ["batch", 3 * size**2])],
        [numpy_helper.from_array(np.array(Preprocess(size).scale_shift()[0][0]), "scale")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="fallow"
    )
