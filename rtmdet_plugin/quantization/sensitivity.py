"""Which layers of an exported RTMDet lose most in 8 bits: measured, one layer at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..export.graph_parts import GraphLinks, find_parts
from .calibration import Track, no_progress, open_runner

SCORE, FEWEST = 0.1, 100
"""A score counts where it is above this in float, or among so many of the highest: what is background stays background,
and a model without a sure score is measured as well."""


def find_layers(graph: onnx.GraphProto, left_out: Sequence[str], target: str) -> dict[str, list[str]]:
    """What may stay in float: convolutions by their node's name, each with the tensors that 8 bits would round with it.

    For ONNX Runtime these are what it and its activation give; for the others what it reads.

    Args:
        graph: an exported one.
        left_out: names of nodes that stay in float anyway.
        target: see `TARGETS` of `quantize`.
    """
    links, left_out, decode = GraphLinks(graph), set(left_out), set(find_parts(graph)['decode'])
    layers = {}
    for node in graph.node:
        if node.op_type == 'Conv' and node.name not in left_out:
            after = [n for n in links.following(node) if n.op_type in ('Sigmoid', 'Mul') and n.name not in decode]
            given = list(dict.fromkeys([node.output[0], *(n.output[0] for n in after)]))
            layers[node.name] = given if target == 'onnxruntime' else [node.input[0]]
    return layers


def measure_layers(
    model: onnx.ModelProto,
    layers: Mapping[str, Sequence[str]],
    ranges: Mapping[str, tuple[float, float]],
    inputs: Sequence[np.ndarray],
    threads: int | None = None,
    track: Track = no_progress,
) -> dict[str, float]:
    """Mean absolute change of the scores that count, when one layer alone has 8 bits: its weights and its tensors.

    Args:
        model: in float, of any form but `trt`.
        layers: see `find_layers`.
        ranges: of the tensors.
        inputs: of the network.
        threads: of ONNX Runtime; None leaves it to it.
        track: see `Track`.

    Returns:
        The error of each layer. See `SCORE` for which scores count.
    """
    expected = _scores(model, inputs, threads)
    fewest = min(FEWEST, len(expected))
    counts = expected >= min(SCORE, np.partition(expected, -fewest)[-fewest])
    errors = {}
    for name, tensors in track(layers.items(), description='Measuring layers', total=len(layers)):
        rounded = round_tensors(model, {tensor: ranges[tensor] for tensor in tensors})
        round_weights(rounded, name)
        errors[name] = float(np.abs(_scores(rounded, inputs, threads) - expected)[counts].mean())
    return errors


def _scores(model: onnx.ModelProto, inputs: Sequence[np.ndarray], threads: int | None) -> np.ndarray:
    made = {name for node in model.graph.node for name in node.output}
    logits = [value.name for value in model.graph.output if value.name.startswith('cls_')]
    run = open_runner(model, ['scores'] if 'scores' in made else logits, threads)
    values = np.concatenate([output.ravel() for images in inputs for output in run(images)])
    return values if 'scores' in made else 1 / (1 + np.exp(-values))


def round_tensors(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """A copy of a model in which tensors have 256 values over their range; everything else is float.

    Args:
        model: with opset 13 or later.
        ranges: of the tensors, which are the graph's input or made by its nodes.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    del graph.value_info[:]
    nodes = list(graph.node)
    del graph.node[:]
    made = [graph.input[0].name]
    for node in [None, *nodes]:  # what the graph gets, then what each node makes
        if node is not None:
            for i, name in enumerate(node.input):
                if name in ranges:
                    node.input[i] = f'{name}/rounded'
            graph.node.append(node)
            made = node.output
        for name in ranges.keys() & set(made):
            low, high = min(ranges[name][0], 0.0), max(ranges[name][1], 0.0)
            scale = max(high - low, 1e-12) / 255
            parameters = dict(scale=np.float32(scale), zero=np.uint8(round(-low / scale)))
            for key, value in parameters.items():
                graph.initializer.append(numpy_helper.from_array(np.asarray(value), f'{name}/{key}'))
            settings = [f'{name}/scale', f'{name}/zero']
            graph.node.append(helper.make_node('QuantizeLinear', [name, *settings], [f'{name}/uint8']))
            graph.node.append(helper.make_node('DequantizeLinear', [f'{name}/uint8', *settings], [f'{name}/rounded']))
    return copied


def round_weights(model: onnx.ModelProto, layer: str) -> None:
    """Give a convolution the 255 values that int8 has for the weights of each of its output channels, in place.

    Args:
        layer: its node's name.
    """
    name = next(node.input[1] for node in model.graph.node if node.name == layer)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    weights = numpy_helper.to_array(tensor)
    scale = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    rounded = np.round(weights / np.maximum(scale, 1e-12)) * scale
    tensor.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), name))
