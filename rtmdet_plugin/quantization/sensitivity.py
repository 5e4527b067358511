"""Measure how much each layer of an exported RTMDet loses in 8 bits, one layer at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rtmdet_runtime import ModelInfo
from rtmdet_runtime.info import MASK_OUTPUTS, OUTPUTS
from rtmdet_runtime.mask_decoding import apply_kernels, mask_logits, points_of

from ..export.graph_parts import GraphLinks, find_parts
from ..export.mask_nodes import MASK_INPUTS
from .calibration import Track, no_progress, open_runner

MIN_SCORE, MIN_COUNT = 0.1, 100
"""A score is compared if in float it is at least this, or among this many highest scores: background stays background,
and a model without confident detections can be measured as well. The same applies to the cells of masks."""
MASKS = 20
"""Number of masks per image that are compared."""


def find_layers(graph: onnx.GraphProto, excluded: Collection[str], target: str) -> dict[str, list[str]]:
    """Find the convolutions that may stay in float, and the tensors that 8 bits would round with each of them.

    For ONNX Runtime these tensors are the outputs of the convolution and of its activation; for other targets the
    convolution's input.

    Args:
        graph: an exported graph.
        excluded: names of nodes that stay in float anyway.
        target: one of `TARGETS`, see `quantize_onnx`.

    Returns:
        Tensor names by the name of the convolution's node.
    """
    links, excluded, decode = GraphLinks(graph), set(excluded), set(find_parts(graph)['decode'])
    layers = {}
    for node in graph.node:
        if node.op_type == 'Conv' and node.name not in excluded:
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
    """Quantise each layer on its own, weights and tensors, and measure the mean absolute change of the scores.

    With masks, it is the larger one of the changes of the classes' scores and of the scores of the masks' cells.

    Args:
        model: float model of any export format but `trt`.
        layers: see `find_layers`.
        ranges: range by tensor.
        inputs: inputs of the network.
        threads: number of ONNX Runtime's threads; None for its own choice.
        track: see `Track`.

    Returns:
        Error by layer. See `MIN_SCORE` for which scores are compared.
    """
    scores = ScoresOf(model, inputs, threads)
    expected = scores(model)
    counts = []
    for values in expected:
        count = min(MIN_COUNT, len(values))
        counts.append(values >= min(MIN_SCORE, np.partition(values, -count)[-count]))
    errors = {}
    for name, tensors in track(layers.items(), description='Measuring layers', total=len(layers)):
        rounded = round_tensors(model, {tensor: ranges[tensor] for tensor in tensors})
        round_weights(rounded, name)
        groups = zip(scores(rounded), expected, counts, strict=True)
        errors[name] = max(float(np.abs(found - values)[counted].mean()) for found, values, counted in groups)
    return errors


class ScoresOf:
    """Compute a model's scores on some inputs: those of its classes, and with masks those of their cells.

    The masks are those of the priors that have the highest scores in the first call, so that calls can be compared.

    Args:
        model: model with metadata.
        inputs: inputs of the network.
        threads: number of ONNX Runtime's threads; None for its own choice.
    """

    def __init__(self, model: onnx.ModelProto, inputs: Sequence[np.ndarray], threads: int | None) -> None:
        self.info = ModelInfo.from_properties({entry.key: entry.value for entry in model.metadata_props}, 'the model')
        self.inputs, self.threads = inputs, threads
        levels = len(self.info.strides)
        self.scores, self.masks = OUTPUTS['decoded'][1:], ()
        if self.info.form == 'raw':
            self.scores, self.masks = self.info.outputs[:levels], self.info.outputs[2 * levels :]
        elif self.info.mask_stride:
            self.masks = MASK_INPUTS if self.info.form == 'nms' else MASK_OUTPUTS['decoded']
        self.best: dict[int, np.ndarray] = {}

    def __call__(self, model: onnx.ModelProto) -> list[np.ndarray]:
        """Return the scores of all classes and priors, and with masks those of all cells, of all inputs; 1-D each."""
        run = open_runner(model, [*self.scores, *self.masks], self.threads)
        groups = [[], []] if self.masks else [[]]
        for number, images in enumerate(self.inputs):
            outputs = run(images)
            scores, masks = outputs[: len(self.scores)], outputs[len(self.scores) :]
            if self.info.form == 'raw':
                scores = [sigmoid(level) for level in scores]
            groups[0] += [level.ravel() for level in scores]
            if masks:
                groups[1].append(sigmoid(self._mask_logits(number, scores, masks)).ravel())
        return [np.concatenate(group) for group in groups]

    def _mask_logits(self, number: int, scores: list[np.ndarray], masks: list[np.ndarray]) -> np.ndarray:
        """Return the mask logits (n, H, W) of the best priors of the first image of an input."""
        *kernels, prototypes = (values[0] for values in masks)
        of_priors = [level[0] for level in scores]
        if self.info.form == 'raw':
            kernels, of_priors = ([level.reshape(len(level), -1).T for level in maps] for maps in (kernels, of_priors))
        confidence = np.concatenate(of_priors).max(axis=1)
        best = self.best.setdefault(number, np.argsort(-confidence, kind='stable')[:MASKS])
        chosen = np.concatenate(kernels)[best]
        if self.info.form == 'nms':  # these are placed, and the coordinates are before the prototypes
            return apply_kernels(prototypes, chosen)
        return mask_logits(prototypes, chosen, points_of(best, self.info), self.info.mask_stride)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the scores of logits."""
    with np.errstate(over='ignore'):  # exp(100) is infinite in float32, which correctly gives a score of 0
        return 1 / (1 + np.exp(-logits))


def round_tensors(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """Return a copy of a model that rounds some tensors to 256 values over their range and keeps the rest in float.

    Args:
        model: model with opset 13 or later.
        ranges: range by tensor; a tensor is the graph's input or the output of a node.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    del graph.value_info[:]
    nodes = list(graph.node)
    del graph.node[:]
    made = [graph.input[0].name]
    for node in [None, *nodes]:  # first the graph's input, then each node's outputs
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
    """Round the weights of a convolution to int8 with one scale per output channel, in place.

    Args:
        model: model to modify.
        layer: name of the convolution's node.
    """
    name = next(node.input[1] for node in model.graph.node if node.name == layer)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    weights = numpy_helper.to_array(tensor)
    scale = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    rounded = np.round(weights / np.maximum(scale, 1e-12)) * scale
    tensor.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), name))
