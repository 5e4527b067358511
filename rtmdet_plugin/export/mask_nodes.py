"""Append the nodes that compute the mask logits of the boxes that NMS selects."""

from __future__ import annotations

import numpy as np

from rtmdet_runtime.info import MASK_OUTPUTS
from rtmdet_runtime.mask_kernel import CHANNELS, KERNEL_PARTS, NUM_PROTOTYPES

from .node_writer import NodeWriter

MASK_INPUTS = ('placed_kernels', 'mask_inputs')
"""Names of the tensors that `PlacedMaskForm` computes for these nodes."""


def append_mask_logits(writer: NodeWriter, priors: str, found: str, k: int) -> None:
    """Append the output `mask_logits` (B, K, H_0, W_0): logits at the upper left corners of the prototypes' cells.

    They are those of `mask_logits` of `rtmdet_plugin.models.dynamic_conv`; rows without a box have logits of 0.

    Args:
        writer: writes to the graph of `PlacedMaskForm`.
        priors: name of the index of each box's prior. (B, K)
        found: name of whether a row has a box. (B, K)
        k: K.
    """
    constant, node = writer.constant, writer.node
    all_kernels, inputs = MASK_INPUTS
    last = constant('last_axis', [2])
    kernels = node('GatherND', all_kernels, node('Unsqueeze', priors, last), batch_dims=1)  # (B, K, 169)
    kernels = node('Where', node('Unsqueeze', found, last), kernels, constant('nothing', 0, np.float32))
    parts = writer.several('Split', len(KERNEL_PARTS), kernels, constant('parts', KERNEL_PARTS), axis=2)

    def shaped(name: str, *shape: int) -> str:  # 0 keeps the length of an axis
        return node('Reshape', name, constant(f'shape_of_{name.rpartition("/")[2]}', shape))

    # All instances share the inputs of the first layer, which is one matrix product.
    hidden = node('MatMul', shaped(parts[0], 0, -1, 2 + NUM_PROTOTYPES), shaped(inputs, 0, 2 + NUM_PROTOTYPES, -1))
    hidden = node('Relu', node('Add', hidden, shaped(parts[3], 0, -1, 1)))
    hidden = node('MatMul', shaped(parts[1], 0, k, CHANNELS, CHANNELS), shaped(hidden, 0, k, CHANNELS, -1))
    hidden = node('Relu', node('Add', hidden, shaped(parts[4], 0, k, CHANNELS, 1)))
    logits = node('MatMul', shaped(parts[2], 0, k, 1, CHANNELS), hidden)
    logits = node('Add', logits, shaped(parts[5], 0, k, 1, 1))
    size = node('Slice', node('Shape', inputs), last, constant('end', [4]))
    shape = node('Concat', constant('batch_and_k', [0, k]), size, axis=0)
    (name,) = MASK_OUTPUTS['nms']
    node('Reshape', logits, shape, out=name)
