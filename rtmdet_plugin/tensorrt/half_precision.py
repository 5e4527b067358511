"""FP16 as types in an ONNX graph: TensorRT 11 has no flags for precisions any more, only the graph's types."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ALWAYS_FLOAT = {'Resize': (1, 2)}
"""Inputs that stay in float32 by ONNX's definition."""


def to_half(model: onnx.ModelProto, keep: Iterable[str]) -> onnx.ModelProto:
    """Return a copy in which convolutions, and nodes that read only their results, compute in float16.

    Inputs, outputs, Q/DQ nodes and convolutions whose weights come from these stay in float32: between such nodes
    TensorRT computes in INT8, and a cast would prevent that.

    Args:
        model: model with the types of its values, as `export_onnx` writes it.
        keep: names of nodes that stay in float32.
    """
    half_model = onnx.ModelProto()
    half_model.CopyFrom(model)
    graph = half_model.graph
    rewriter = HalfRewriter(graph, keep)
    for node in graph.node:
        rewriter.add(node)
    nodes = [*rewriter.nodes, *_float_outputs(graph, rewriter.nodes, rewriter.half)]

    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    nodes = [node for node in nodes if used.intersection(node.output)]
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in (*graph.initializer, *rewriter.half_weights) if tensor.name in used]
    half_model.graph.CopyFrom(helper.make_graph(nodes, graph.name, graph.input, graph.output, weights))
    half_model = onnx.shape_inference.infer_shapes(half_model, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(half_model, full_check=True)
    return half_model


class HalfRewriter:
    """Rewrite the nodes of a graph in order: choose those that compute in float16, and cast their inputs.

    Args:
        graph: graph with the types of its values.
        keep: names of nodes that stay in float32.

    Attributes:
        nodes: the rewritten nodes and the casts between them.
        half: names of the float16 results.
        half_weights: float16 copies of the weights that are read in float16.
    """

    def __init__(self, graph: onnx.GraphProto, keep: Iterable[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.half: set[str] = set()
        self.half_weights: list[onnx.TensorProto] = []
        self._keep = set(keep)
        self._casts: set[str] = set()
        values = (*graph.value_info, *graph.input, *graph.output)
        self._floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
        for node in graph.node:  # PyTorch's exporter stores equal tensors, such as biases of 0, once
            if node.op_type == 'Identity' and node.input[0] in self._weights:
                self._weights[node.output[0]] = self._weights[node.input[0]]
        self._dequantized = {node.output[0] for node in graph.node if node.op_type == 'DequantizeLinear'}
        constants = {node.output[0] for node in graph.node if node.op_type == 'Constant'}
        self._activations = self._floats - constants - self._weights.keys()

    def add(self, node: onnx.NodeProto) -> None:
        """Append the casts that a node needs, then the node, with its inputs renamed to the casts' results."""
        in_half = self._is_half(node)
        for i, name in enumerate(node.input):
            wants_half = in_half and i not in ALWAYS_FLOAT.get(node.op_type, ())
            if (name in self._weights or name in self._floats) and wants_half != (name in self.half):
                node.input[i] = self._cast(name)
        if in_half:
            self.half |= self._floats.intersection(node.output)
        self.nodes.append(node)

    def _is_half(self, node: onnx.NodeProto) -> bool:
        if node.name in self._keep or node.op_type in ('QuantizeLinear', 'DequantizeLinear'):
            return False
        if node.op_type == 'Conv':
            return node.input[1] not in self._dequantized
        inputs = {name for i, name in enumerate(node.input) if i not in ALWAYS_FLOAT.get(node.op_type, ())}
        read = inputs & self._activations
        return bool(read) and read <= self.half

    def _cast(self, name: str) -> str:
        """Return the name of a tensor in the other precision; it is created only once."""
        suffix, kind = ('float', TensorProto.FLOAT) if name in self.half else ('half', TensorProto.FLOAT16)
        cast = f'{name}/{suffix}'
        if cast not in self._casts:
            self._casts.add(cast)
            if name in self._weights:
                values = numpy_helper.to_array(self._weights[name]).astype(np.float16)
                self.half_weights.append(numpy_helper.from_array(values, cast))
            else:
                self.nodes.append(helper.make_node('Cast', [name], [cast], f'{name}/to_{suffix}', to=kind))
        return cast


def _float_outputs(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], half: set[str]) -> list[onnx.NodeProto]:
    """Rename outputs that have become float16; return the casts that restore them in float32."""
    renamed = {output.name: f'{output.name}/half' for output in graph.output if output.name in half}
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    return [
        helper.make_node('Cast', [inner], [name], f'{name}/to_float', to=TensorProto.FLOAT)
        for name, inner in renamed.items()
    ]
