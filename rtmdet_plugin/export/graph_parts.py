"""Parts of an exported RTMDet that quantisation may have to leave in float, found by their place in the graph.

Names of nodes differ between exporters, what follows what doesn't. And the graph's weights, which must be numbers.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, numpy_helper

from ..checkpoints.finite import check_finite

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


class GraphLinks:
    """What makes a tensor, and what reads it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def following(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that read what a node makes."""
        return [reader for name in node.output for reader in self.readers[name]]

    def around(self, tensor: str) -> list[str]:
        """Names of the nodes that make or read a tensor: it stays in float where all of them do."""
        maker = [self.maker[tensor]] if tensor in self.maker else []
        return [node.name for node in maker + self.readers[tensor]]


def find_parts(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """Names of the nodes of each part.

    - stem: the first convolution.
    - attention: of the channels: mean, convolution and hard sigmoid. What they scale isn't among them.
    - predictions: the last convolutions, one for logits and one for distances a level.
    - decode: everything behind those.

    Raises:
        ValueError: where nodes have no name, or two have the same.
    """
    names = [node.name for node in graph.node]
    if '' in names or len(set(names)) < len(names):
        raise ValueError("nodes without a name of their own; accepted: a file of `rtmdet export`'s")
    links = GraphLinks(graph)

    # Nodes are in topological order, so that from behind all followers of a node are known before it.
    before_conv = set()
    for node in reversed(graph.node):
        if any(after.op_type == 'Conv' or after.name in before_conv for after in links.following(node)):
            before_conv.add(node.name)
    constants = {node.name for node in graph.node if node.op_type == 'Constant'}
    predictions = [node for node in graph.node if node.op_type == 'Conv' and node.name not in before_conv]
    decode, seen = [], {node.name for node in predictions}
    for node in graph.node:
        if node.name not in seen and any(name in links.maker and links.maker[name].name in seen for name in node.input):
            decode.append(node.name)
            seen.add(node.name)
    attention = []
    for gate in (node for node in graph.node if node.op_type == 'HardSigmoid'):
        conv = links.maker[gate.input[0]]
        attention += [links.maker[conv.input[0]].name, conv.name, gate.name]
    first = [node.name for node in graph.node if node.op_type == 'Conv'][:1]
    parts = dict(stem=first, attention=attention, predictions=[node.name for node in predictions], decode=decode)
    return {part: [name for name in found if name not in constants] for part, found in parts.items()}


def check_initializers(model: onnx.ModelProto, source: str | Path) -> None:
    """Refuse a graph with weights that aren't finite; see `check_finite`."""
    weights = {
        tensor.name: torch.tensor(numpy_helper.to_array(tensor))
        for tensor in model.graph.initializer
        if tensor.data_type in FLOATS
    }
    check_finite(weights, source)
