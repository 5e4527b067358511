"""Find the parts of an exported RTMDet that quantisation may have to keep in float, and check the graph's weights.

Parts are found by the connections between nodes, because the names of nodes differ between exporters.
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
    """The node that computes each tensor, and the nodes that read it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def following(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the nodes that read a node's outputs."""
        return [reader for name in node.output for reader in self.readers[name]]

    def around(self, tensor: str) -> list[str]:
        """Return the names of the nodes that compute or read a tensor; it stays in float if all of them do."""
        maker = [self.maker[tensor]] if tensor in self.maker else []
        return [node.name for node in maker + self.readers[tensor]]


def find_parts(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """Return the names of the nodes of each part.

    - stem: the first convolution.
    - attention: mean, convolution and hard sigmoid of the channel attention, without the multiplication that it feeds.
    - predictions: the last convolutions, one for logits and one for distances per level; with masks also one for
      kernels per level, and one for the prototypes.
    - decode: everything after the predictions.

    Raises:
        ValueError: if a node has no name, or two nodes have the same.
    """
    names = [node.name for node in graph.node]
    if '' in names or len(set(names)) < len(names):
        raise ValueError(
            'graph must have a unique name for each node, got an empty or repeated one; use `rtmdet export`'
        )
    links = GraphLinks(graph)

    # Nodes are in topological order, so in reverse, all followers of a node are visited before it.
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
    """Raise an error if the graph has weights that aren't finite; see `check_finite`."""
    weights = {
        tensor.name: torch.tensor(numpy_helper.to_array(tensor))
        for tensor in model.graph.initializer
        if tensor.data_type in FLOATS
    }
    check_finite(weights, source)
