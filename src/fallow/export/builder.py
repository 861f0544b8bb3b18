"""A small hand to write ONNX graphs with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, helper, numpy_helper

from fallow.models import GRAPH_INPUT, GRAPH_OUTPUT, IR_VERSION, OPSET


class GraphBuilder:
    """Collects nodes and constants; every value gets a name of its own."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._opsets: dict[str, int] = {"": OPSET}

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        output = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, value: NDArray[Any] | float | list[int]) -> str:
        """Add a constant (floats become float32, lists of numbers int64) and return its name."""
        if isinstance(value, list):
            array: NDArray[Any] = np.array(value, dtype=np.int64)
        elif isinstance(value, float):
            array = np.array(value, dtype=np.float32)
        else:
            array = np.ascontiguousarray(value)
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def splice(self, model: onnx.ModelProto, pixels: str, prefix: str) -> str:
        """Add the nodes of a backbone graph, fed with ``pixels``; return the name of its features."""
        copy = compose.add_prefix(model, prefix, rename_functions=False)
        for node in copy.graph.node:
            for position, name in enumerate(node.input):
                if name == prefix + GRAPH_INPUT:
                    node.input[position] = pixels
        self._nodes += copy.graph.node
        self._constants += copy.graph.initializer
        for opset in copy.opset_import:
            self._opsets[opset.domain] = max(self._opsets.get(opset.domain, 0), opset.version)
        return prefix + GRAPH_OUTPUT

    def model(
        self,
        name: str,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        properties: dict[str, str],
    ) -> onnx.ModelProto:
        """Return the finished model."""
        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fallow")
        helper.set_model_props(model, properties)
        return model
