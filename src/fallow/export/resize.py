"""Pillow's antialiased bicubic resize, in plain ONNX nodes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from fallow.export.builder import GraphBuilder


def resize(graph: GraphBuilder, image: str, size: int) -> str:
    """Add nodes that resize ``image`` uint8 (H, W, 3), any H and W, to uint8 (size, size, 3); return their
    output.

    Each pass is a product with a matrix of Keys' cubic weights (a = -0.5; the kernel is widened by the scale
    when shrinking), which depends on H or W only and is computed in the graph. As in `Preprocess`, width goes
    first, and values are rounded to whole gray levels after each pass. ``Resize(antialias=1)`` is avoided:
    its edges differ, and not every runtime has it.
    """
    shape = graph.op("Shape", image)
    planes = graph.op("Cast", graph.op("Transpose", image, perm=[2, 0, 1]), to=TensorProto.FLOAT)
    across = _to_levels(graph, graph.op("MatMul", planes, _weights(graph, shape, 1, size)))
    rows = graph.op("Transpose", _weights(graph, shape, 0, size), perm=[1, 0])
    down = _to_levels(graph, graph.op("MatMul", rows, across))
    return graph.op("Transpose", graph.op("Cast", down, to=TensorProto.UINT8), perm=[1, 2, 0])


def _to_levels(graph: GraphBuilder, values: str) -> str:
    """Round half up and clip to 0..255, as Pillow's fixed-point arithmetic does."""
    rounded = graph.op("Floor", graph.op("Add", values, graph.constant(0.5)))
    return graph.op("Clip", rounded, graph.constant(0.0), graph.constant(255.0))


def _weights(graph: GraphBuilder, shape: str, axis: int, size: int) -> str:
    """Add nodes for the weights (length of ``axis``, size) of one pass; each column sums to 1."""
    one = graph.constant(1.0)
    length = graph.op("Gather", shape, graph.constant(np.array(axis, np.int64)))
    scale = graph.op("Div", graph.op("Cast", length, to=TensorProto.FLOAT), graph.constant(float(size)))
    start, step = graph.constant(np.array(0, np.int64)), graph.constant(np.array(1, np.int64))
    index = graph.op("Cast", graph.op("Range", start, length, step), to=TensorProto.FLOAT)
    sources = graph.op("Unsqueeze", graph.op("Add", index, graph.constant(0.5)), graph.constant([1]))
    centers = graph.op("Mul", graph.constant((np.arange(size, dtype=np.float32) + 0.5)[None]), scale)
    distance = graph.op("Abs", graph.op("Sub", sources, centers))
    x = graph.op("Div", distance, graph.op("Max", scale, one))
    near = _polynomial(graph, x, (1.5, -2.5, 0.0, 1.0))
    far = _polynomial(graph, x, (-0.5, 2.5, -4.0, 2.0))
    beyond = graph.op("Where", graph.op("Less", x, graph.constant(2.0)), far, graph.constant(0.0))
    weights = graph.op("Where", graph.op("Less", x, one), near, beyond)
    return graph.op("Div", weights, graph.op("ReduceSum", weights, graph.constant([0]), keepdims=1))


def _polynomial(graph: GraphBuilder, x: str, coefficients: tuple[float, ...]) -> str:
    """Add nodes for a polynomial of ``x`` by Horner's rule, highest power first."""
    first, *rest = coefficients
    value = graph.op("Mul", x, graph.constant(first))
    for coefficient in rest[:-1]:
        value = graph.op("Mul", graph.op("Add", value, graph.constant(coefficient)), x)
    return graph.op("Add", value, graph.constant(rest[-1]))
