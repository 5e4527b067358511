"""Check if TensorRT supports a graph, by its published list; needs neither TensorRT nor a GPU.

The list is that of the ONNX parser for TensorRT 8.5, the oldest version that these graphs are meant for (opset 17);
later versions support more. It has only the operators that an RTMDet graph can have, including quantised ones. That
weights of `Conv` and limits of `NonMaxSuppression` must be constants is required by 8.4's list, not by 8.5's. The
requirements on Q/DQ nodes that go beyond the list are those of the parser when it imports such a node.
Sources: https://github.com/onnx/onnx-tensorrt/blob/6d0ab7be324d02c7feb3a306b6fdbeae84f71ddc/docs/operators.md,
for 8.4 the same file at 009d6541b4ee1fa3f3150cd7cbabe7e56aa54840,
and `QuantDequantLinearHelper` in https://github.com/onnx/onnx-tensorrt/blob/main/onnxOpImporters.cpp
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper, numpy_helper

FLOATS = frozenset({'FP32', 'FP16'})
NUMBERS = FLOATS | {'INT32'}
MOVED = NUMBERS | {'INT8', 'BOOL'}
SUPPORTED = {
    'Add': NUMBERS,
    'Cast': MOVED,
    'Clip': FLOATS | {'INT8'},
    'Concat': MOVED,
    'Constant': MOVED,
    'ConstantOfShape': frozenset({'FP32'}),
    'Conv': FLOATS | {'INT8'},
    'DequantizeLinear': frozenset({'INT8'}),
    'Div': NUMBERS,
    'Equal': NUMBERS,
    'Exp': FLOATS,
    'Expand': NUMBERS | {'BOOL'},
    'Flatten': NUMBERS | {'BOOL'},
    'Gather': MOVED,
    'GatherND': MOVED,
    'GlobalAveragePool': FLOATS | {'INT8'},
    'Greater': NUMBERS,
    'HardSigmoid': FLOATS | {'INT8'},
    'Identity': MOVED,
    'Less': NUMBERS,
    'MaxPool': FLOATS | {'INT8'},
    'Min': NUMBERS,
    'Mul': NUMBERS,
    'NonMaxSuppression': FLOATS,
    'QuantizeLinear': FLOATS,
    'Range': NUMBERS,
    'ReduceMean': FLOATS,
    'Relu': FLOATS | {'INT8'},
    'Reshape': MOVED,
    'Resize': FLOATS,
    'Shape': MOVED,
    'Sigmoid': FLOATS | {'INT8'},
    'Slice': MOVED,
    'Squeeze': MOVED,
    'Sub': NUMBERS,
    'TopK': FLOATS,
    'Transpose': MOVED,
    'Unsqueeze': MOVED,
    'Where': NUMBERS | {'BOOL'},
}
"""Supported data types by operator."""

TYPES: dict[int | None, str] = {
    TensorProto.FLOAT: 'FP32',
    TensorProto.FLOAT16: 'FP16',
    TensorProto.INT8: 'INT8',
    TensorProto.UINT8: 'UINT8',
    TensorProto.INT32: 'INT32',
    TensorProto.INT64: 'INT32',  # cast down by the parser
    TensorProto.BOOL: 'BOOL',
}
DATA_INPUTS = {
    **dict.fromkeys(('Add', 'Concat', 'Div', 'Equal', 'Greater', 'Less', 'Min', 'Mul', 'Sub'), slice(None)),
    'Where': slice(1, None),  # the first input is the condition, BOOL by definition
}
"""Inputs that hold data, if that isn't only the first one; the others are indices, shapes and the like."""
CONSTANT_INPUTS = {
    'Conv': (1,),
    'NonMaxSuppression': (2, 3, 4),
    'ReduceMean': (1,),
    'Slice': (3,),
    'Squeeze': (1,),
    'TopK': (1,),
    'Unsqueeze': (1,),
}
"""Inputs that must be known when the engine is built; weights may come from a pair of Q/DQ nodes."""
RESIZE = dict(
    mode=('nearest', 'linear'),
    coordinate_transformation_mode=(
        'half_pixel', 'pytorch_half_pixel', 'tf_half_pixel_for_nn', 'asymmetric', 'align_corners',
    ),
    nearest_mode=('floor', 'ceil', 'round_prefer_floor', 'round_prefer_ceil'),
)  # fmt: skip
PLUGINS = ('EfficientNMS_TRT',)


def find_unsupported(model: onnx.ModelProto) -> list[str]:
    """List what TensorRT doesn't support in a graph: operators, types, attributes, inputs that must be constant.

    Args:
        model: model with the types of its values, as `export_onnx` writes it.

    Returns:
        One line per node and reason; empty if TensorRT supports the graph.
    """
    graph = model.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    constants = {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == 'Constant'}
    constants |= {initializer.name: initializer for initializer in graph.initializer}
    for node in graph.node:  # PyTorch's exporter stores equal tensors once, and adds Identity nodes
        if node.op_type == 'Identity' and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    kinds |= {name: tensor.data_type for name, tensor in constants.items() if tensor.data_type}
    quantized = {n.output[0] for n in graph.node if n.op_type == 'QuantizeLinear' and n.input[0] in constants}
    weights = quantized | constants.keys()
    dequantized = {n.output[0] for n in graph.node if n.op_type == 'DequantizeLinear' and n.input[0] in weights}
    tensors = Tensors(kinds, constants, weights, dequantized)
    return [
        f'{node.op_type} {node.name}: {problem}' for node in graph.node for problem in _node_problems(node, tensors)
    ]


class Tensors(NamedTuple):
    """What is known about the tensors of a graph, by name."""

    kinds: Mapping[str, int]  # ONNX's numbers for types
    constants: Mapping[str, onnx.TensorProto]
    weights: Set[str]  # constants and what Q nodes make of them
    dequantized_weights: Set[str]


def _node_problems(node: onnx.NodeProto, tensors: Tensors) -> Iterator[str]:
    """Yield what TensorRT doesn't support in a node."""
    if node.domain == 'TRT' and node.op_type in PLUGINS:
        return
    if node.domain or node.op_type not in SUPPORTED:
        yield 'TensorRT does not support the operator'
        return
    makes_data = node.op_type in ('Constant', 'ConstantOfShape', 'Range')
    data = node.output if makes_data else node.input[DATA_INPUTS.get(node.op_type, slice(1))]
    found = {tensors.kinds.get(value): value for value in data}
    found = {TYPES.get(kind, f'type {kind or "unknown"} of {value}') for kind, value in found.items()}
    for kind in sorted(found - SUPPORTED[node.op_type]):
        yield f'TensorRT does not support {kind}'
    constant = tensors.constants.keys() | (tensors.dequantized_weights if node.op_type == 'Conv' else set())
    for value in (node.input[i] for i in CONSTANT_INPUTS.get(node.op_type, ()) if len(node.input) > i):
        if value and value not in constant:
            yield f'input {value} must be a constant'
    if node.op_type == 'MaxPool' and len(node.output) > 1 and node.output[1]:
        yield 'TensorRT does not support its output Indices'
    if node.op_type in ('QuantizeLinear', 'DequantizeLinear'):
        yield from _quantization_problems(node, tensors.constants, node.input[0] in tensors.weights)
    if node.op_type == 'Resize':
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        for key, accepted in RESIZE.items():
            value = attributes.get(key, accepted[0].encode()).decode()
            if value not in accepted:
                yield f'{key} must be one of {", ".join(accepted)}, got {value}'


def _quantization_problems(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], of_weights: bool
) -> list[str]:
    """List what TensorRT doesn't support in a Q or DQ node; it needs signed 8 bits, zero points 0, constant scales."""
    if len(node.input) < 3 or not node.input[2]:
        return ['the zero point must be INT8 zeros, got none, which means UINT8']
    if unknown := [name for name in node.input[1:] if name not in constants]:
        return [f'{" and ".join(unknown)} must be constant']
    scale, zero_point = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
    problems = []
    if constants[node.input[2]].data_type != TensorProto.INT8 or zero_point.any():
        kind = TYPES.get(constants[node.input[2]].data_type, 'another type')
        problems.append(f'zero points must be INT8 zeros, got {kind}, {zero_point.min()} to {zero_point.max()}')
    if not (scale > 0).all():
        problems.append(f'scales must be above 0, got {scale.min()}')
    if scale.size > 1:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == 'axis'), 1)
        if not of_weights:
            problems.append('an activation must have one scale, got one per channel')
        elif axis != 0:
            problems.append(f'axis must be 0, the output channels, got {axis}')
    return problems
