"""Append nodes and constants to an ONNX graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


class NodeWriter:
    """Append nodes and constants, whose names have a common prefix, to a graph.

    Args:
        graph: the graph; it is changed.
        prefix: what the names begin with.
    """

    def __init__(self, graph: onnx.GraphProto, prefix: str) -> None:
        self.graph, self.prefix = graph, prefix

    def constant(self, name: str, value, dtype: type[np.generic] = np.int64) -> str:
        """Append a constant, and return its name with the prefix."""
        name = f'{self.prefix}/{name}'
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, *inputs: str, out: str | None = None, **attributes) -> str:
        """Append a node with one output, and return the name of the output, which is `out` if given."""
        return self.several(op, 1, *inputs, out=out, **attributes)[0]

    def several(self, op: str, count: int, *inputs: str, out: str | None = None, **attributes) -> list[str]:
        """Append a node with `count` outputs, and return their names."""
        number = sum(node.name.startswith(f'{self.prefix}/') for node in self.graph.node)
        name = f'{self.prefix}/{op}_{number}'
        outputs = [out or name] if count == 1 else [f'{name}_{i}' for i in range(count)]
        self.graph.node.append(helper.make_node(op, inputs, outputs, name, **attributes))
        return outputs
