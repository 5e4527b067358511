"""FP16 as types in an ONNX graph. TensorRT 11 takes precisions from there alone, its flags for them are gone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ALWAYS_FLOAT = {'Resize': (1, 2)}
"""Inputs that stay in float32 by ONNX's definition."""


def to_half(model: onnx.ModelProto, keep: Iterable[str]) -> onnx.ModelProto:
    """A copy in which convolutions compute in float16, and with them what reads nothing but their results.

    In float32 stay the inputs and outputs, Q/DQ nodes, and the convolutions whose weights come from these: in between
    TensorRT computes in INT8, and a cast there would keep it from that.

    Args:
        model: with the types of its values, as `export_onnx` writes it.
        keep: names of nodes that stay in float32.
    """
    half_model = onnx.ModelProto()
    half_model.CopyFrom(model)
    graph, keep = half_model.graph, set(keep)
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    for node in graph.node:  # PyTorch's exporter makes one of tensors that are equal, such as biases of 0
        if node.op_type == 'Identity' and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    dequantized = {node.output[0] for node in graph.node if node.op_type == 'DequantizeLinear'}
    constants = {node.output[0] for node in graph.node if node.op_type == 'Constant'}
    half, casts, nodes = set(), {}, []

    def is_half(node: onnx.NodeProto) -> bool:
        if node.name in keep or node.op_type in ('QuantizeLinear', 'DequantizeLinear'):
            return False
        if node.op_type == 'Conv':
            return node.input[1] not in dequantized
        data = [name for i, name in enumerate(node.input) if i not in ALWAYS_FLOAT.get(node.op_type, ())]
        floats = {name for name in data if kinds.get(name) == TensorProto.FLOAT} - constants - weights.keys()
        return bool(floats) and floats <= half

    def cast(name: str, kind: int) -> str:
        suffix = 'half' if kind == TensorProto.FLOAT16 else 'float'
        if (name, kind) not in casts:
            casts[name, kind] = f'{name}/{suffix}'
            if name in weights:
                values = numpy_helper.to_array(weights[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(values, casts[name, kind]))
            else:
                nodes.append(helper.make_node('Cast', [name], [casts[name, kind]], f'{name}/to_{suffix}', to=kind))
        return casts[name, kind]

    for node in graph.node:
        in_half = is_half(node)
        for i, name in enumerate(node.input):
            wanted = in_half and i not in ALWAYS_FLOAT.get(node.op_type, ())
            if (name in weights or kinds.get(name) == TensorProto.FLOAT) and wanted != (name in half):
                node.input[i] = cast(name, TensorProto.FLOAT16 if wanted else TensorProto.FLOAT)
        if in_half:
            half.update(name for name in node.output if kinds[name] == TensorProto.FLOAT)
        nodes.append(node)
    nodes += _float_outputs(graph, nodes, half)

    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    nodes = [node for node in nodes if used.intersection(node.output)]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, graph.name, graph.input, graph.output, [tensor for tensor in graph.initializer if tensor.name in used]
    )
    half_model.graph.CopyFrom(graph)
    half_model = onnx.shape_inference.infer_shapes(half_model, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(half_model, full_check=True)
    return half_model


def _float_outputs(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], half: set[str]) -> list[onnx.NodeProto]:
    """Rename outputs that have become float16; returned are the casts that give their names back in float32."""
    renamed = {output.name: f'{output.name}/half' for output in graph.output if output.name in half}
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    return [
        helper.make_node('Cast', [inner], [name], f'{name}/to_float', to=TensorProto.FLOAT)
        for name, inner in renamed.items()
    ]
