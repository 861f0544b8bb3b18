"""The exported model with 8-bit weights and activations: a quarter of the size, and faster where the processor helps."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fallow.errors import RunError
from fallow.export.onnx_graph import IMAGE
from fallow.models import save_graph

_KINDS = ("Conv", "Gemm", "MatMul")


def quantize(graph: Path, images: Iterable[NDArray[np.uint8]], out: Path) -> None:
    """Write an 8-bit copy of an exported model.

    Weights have a scale for each channel, activations one each, from the range that they take on ``images`` (static
    quantization; Jacob et al. 2018, arXiv 1712.05877). Resizing, normalization and softmax stay in float32.

    Args:
        graph: From `export_onnx`.
        images: uint8 (H, W, 3) RGB images like those that the model will see; a hundred are enough.
        out: Where to write, atomically.

    Raises:
        RunError: ONNX Runtime cannot quantize this graph.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images: Iterator[NDArray[np.uint8]] = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {IMAGE: image}

    with tempfile.TemporaryDirectory() as folder:
        plain, made = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it recommends to the root logger what has been done
        try:
            quant_pre_process(str(graph), str(plain), skip_symbolic_shape=True)
            quantize_static(
                str(plain),
                str(made),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(_KINDS),
                nodes_to_exclude=_without_weights(onnx.load(plain)),
            )
            model = onnx.load(made)
        except Exception as error:  # whatever lies beneath: the float model is there and good
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise RunError(f"the model could not be written with 8-bit weights ({reason})") from error
        finally:
            root.setLevel(level)
    properties = {p.key: p.value for p in onnx.load(graph).metadata_props}
    onnx.helper.set_model_props(model, properties)
    save_graph(model, out)


def _without_weights(model: onnx.ModelProto) -> list[str]:
    """Return the products of two things that are computed, such as resizing: only weights are worth 8 bits."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _KINDS and not any(name in constants for name in node.input[1:2])
    ]
