"""Post-training static quantisation of an exported float model to INT8 by ONNX Runtime, as Q/DQ nodes.

Weights have one scale per channel and activations one per tensor; the latter's range is measured on images that pass
through the runtime's own preprocessing. What would lose too much accuracy stays in float: parts that are known from
the architecture (`graph_parts`) and layers that are found by measurement (`sensitivity`). The places of the Q/DQ nodes
depend on the runtime that the file is for (`TARGETS`).
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from rtmdet_runtime import RTMDetector
from rtmdet_runtime.choices import FLOAT_PARTS, METHODS, PARTS, TARGETS

from ..export.convert import read_info, read_model
from ..export.graph_parts import GraphLinks, find_parts
from ..export.nms_nodes import cut_efficient_nms, paste_efficient_nms
from ..export.onnx_export import write_onnx
from .calibration import Track, no_progress, observe, value_range
from .sensitivity import find_layers, measure_layers

Range = tuple[float, float]


class Calibration:
    """A float model and the observed values of its tensors; created once, it can be quantised in several ways.

    Args:
        source: file of `export_onnx`. In the format `trt`, the graph before the plugin is calibrated and quantised.
        images: images for calibration, like those that the model will see. Their order doesn't change the results.
        threads: number of ONNX Runtime's threads; None for its own choice.
        track: see `Track`.

    Raises:
        FileNotFoundError: if the file or an image doesn't exist.
        ValueError: if the file isn't one of ours or is quantised already, or if there are no images or one can't be
            read.
    """

    def __init__(
        self,
        source: str | Path,
        images: Sequence[str | Path],
        threads: int | None = None,
        track: Track = no_progress,
    ) -> None:
        self.source, info = read_model(source)
        if not images:
            raise ValueError('images must have at least one image for calibration, got none')
        self.model = cut_efficient_nms(self.source) if info.form == 'trt' else self.source
        if any(node.op_type == 'QuantizeLinear' for node in self.model.graph.node):
            raise ValueError(f'{source} must be a float model, got one that is quantised already')
        self.images, self.threads, self.track = list(images), threads, track
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(self.model, path := Path(folder) / 'model.onnx')
            self.detector = RTMDetector(path, threads=threads)
        self.parts = find_parts(self.model.graph)
        self.observations = observe(self.model, self._tensors(), self._tracked_inputs, threads)

    def input_of(self, image: str | Path) -> np.ndarray:
        """Return the network's input (B, 3, H, W) for an image; a fixed batch is filled by repeating the image."""
        inputs, _ = self.detector.preprocess([image])
        return np.ascontiguousarray(np.broadcast_to(inputs[:1], inputs.shape))

    def inputs(self, count: int | None = None) -> Iterator[np.ndarray]:
        """Yield the network's inputs, one image each; only `count` evenly spaced images if given."""
        return map(self.input_of, evenly_spaced(self.images, count or len(self.images)))

    def _tracked_inputs(self, description: str) -> Iterable[np.ndarray]:
        return self.track(self.inputs(), description=description, total=len(self.images))

    def _tensors(self) -> list[str]:
        graph = self.model.graph
        # NMS has tensors without values if nothing is found; it is never quantised.
        decode = set(self.parts['decode']) if self.detector.info.form == 'nms' else set()
        kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}
        made = [name for node in graph.node if node.name not in decode for name in node.output]
        floats = [name for name in made if kinds.get(name) == onnx.TensorProto.FLOAT]
        return [graph.input[0].name, *floats]

    def ranges(self, method: str, percentile: float = 99.99) -> dict[str, Range]:
        """Return the range of each tensor, see `value_range`."""
        return {name: value_range(seen, method, percentile) for name, seen in self.observations.items()}

    def layer_errors(
        self, ranges: Mapping[str, Range], keep_float: Iterable[str], target: str, count: int = 8
    ) -> dict[str, float]:
        """Return the error of each layer on `count` of the images, see `measure_layers`."""
        layers = find_layers(self.model.graph, self._nodes_of(keep_float), target)
        return measure_layers(self.model, layers, ranges, list(self.inputs(count)), self.threads, self.track)

    def sensitive_layers(
        self, ranges: Mapping[str, Range], keep_float: Iterable[str], tolerance: float, target: str
    ) -> dict[str, float]:
        """Return the error of each layer whose quantisation shifts scores by more than `tolerance`; none if it is 1."""
        errors = self.layer_errors(ranges, keep_float, target) if tolerance < 1 else {}
        return {name: error for name, error in errors.items() if error > tolerance}

    def float_nodes(self, keep_float: Iterable[str], layers: Iterable[str], target: str) -> list[str]:
        """Return the names of the nodes that must stay in float for these parts and layers, see `quantize`."""
        links, layers = GraphLinks(self.model.graph), set(layers)
        names = self._nodes_of(keep_float) | layers
        for layer, tensors in find_layers(self.model.graph, (), target).items():
            if layer in layers and target == 'onnxruntime':  # a tensor stays in float only if all its neighbours do
                names.update(name for tensor in tensors for name in links.around(tensor))
        return sorted(names)

    def _nodes_of(self, parts: Iterable[str]) -> set[str]:
        """Return the names of the parts' nodes; in the format `nms` those of `decode` as well."""
        parts = {*parts, 'decode'} if self.detector.info.form == 'nms' else parts
        return {name for part in parts for name in self.parts[part]}

    def quantize(
        self, ranges: Mapping[str, Range], keep_float: Iterable[str], layers: Iterable[str], target: str
    ) -> onnx.ModelProto:
        """Return the model with Q/DQ nodes and with its metadata.

        Args:
            ranges: ranges by tensor, see `ranges`.
            keep_float: parts of `PARTS` to keep in float; in the format `nms`, `decode` always stays in float.
            layers: names of convolutions to keep in float, see `find_layers`.
            target: one of `TARGETS`.
        """
        tensorrt = target == 'tensorrt'
        settings: dict[str, Any] = dict(
            ActivationSymmetric=tensorrt, QuantizeBias=not tensorrt, AddQDQPairToWeight=tensorrt
        )
        if target != 'onnxruntime':
            settings['OpTypesToExcludeOutputQuantization'] = ['Conv']
        values = {name: tuple(map(np.float32, ends)) for name, ends in ranges.items()}
        # `quantize_static` would calibrate again: it accepts ranges only in releases that don't support Python 3.10.
        with _quiet():
            quantizer = QDQQuantizer(
                copy.deepcopy(self.model),
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8 if tensorrt else QuantType.QUInt8,
                tensors_range=TensorsData(CalibrationMethod.MinMax, values),
                nodes_to_quantize=[],
                nodes_to_exclude=self.float_nodes(keep_float, layers, target),
                op_types_to_quantize=[*{**QLinearOpsRegistry, **QDQRegistry}] if target == 'onnxruntime' else ['Conv'],
                extra_options=settings,
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        model = quantizer.model.model
        if self.model is not self.source:
            paste_efficient_nms(model, self.source)
        del model.metadata_props[:]
        model.metadata_props.extend(self.source.metadata_props)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
        return model


def quantize_onnx(
    source: str | Path,
    path: str | Path,
    images: Sequence[str | Path],
    *,
    method: str = 'mse',
    percentile: float = 99.99,
    keep_float: Sequence[str] = FLOAT_PARTS,
    tolerance: float = 0.001,
    target: str = 'onnxruntime',
    threads: int | None = None,
    track: Track = no_progress,
) -> dict[str, float]:
    """Write an INT8 version of a model; the write is atomic.

    Args:
        source: see `Calibration`.
        path: file to write (.onnx).
        images: see `Calibration`.
        method: how to choose ranges, one of `METHODS`, see `value_range`.
        percentile: share of the values to cover with the method 'percentile', above 50 and up to 100.
        keep_float: parts to keep in float, of `PARTS`.
        tolerance: keep layers in float if quantising them shifts scores by more, from 0 to 1, see `measure_layers`;
            1 keeps none and measures nothing.
        target: the runtime that the file is for, one of `TARGETS`; the format `trt` requires tensorrt.
        threads: see `Calibration`.
        track: see `Calibration`.

    Returns:
        The layers that stay in float: error by the name of the convolution.

    Raises:
        FileNotFoundError, ValueError: see `Calibration`; ValueError also if an argument isn't accepted.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {", ".join(METHODS)}, got {method!r}')
    if not 50 < percentile <= 100:
        raise ValueError(f'percentile must be above 50 and at most 100, got {percentile}')
    check_settings(keep_float, tolerance)
    if target not in TARGETS:
        raise ValueError(f'target must be one of {", ".join(TARGETS)}, got {target!r}')
    if target != 'tensorrt' and read_info(source).form == 'trt':
        raise ValueError(f'target must be tensorrt for the export format trt of {source}, got {target!r}')
    if Path(path).suffix != '.onnx':
        raise ValueError(f'path must end in .onnx, got {path}; `rtmdet quantize` writes .xml as well')
    calibration = Calibration(source, images, threads, track)
    ranges = calibration.ranges(method, percentile)
    layers = calibration.sensitive_layers(ranges, keep_float, tolerance, target)
    write_onnx(calibration.quantize(ranges, keep_float, layers, target), path)
    return layers


def check_settings(keep_float: Sequence[str], tolerance: float) -> None:
    """Raise a `ValueError` for an unknown part or a tolerance out of its range."""
    if not 0 <= tolerance <= 1:
        raise ValueError(f'tolerance must be from 0 to 1, got {tolerance}')
    if unknown := set(keep_float) - set(PARTS):
        raise ValueError(f'keep_float must be out of {", ".join(PARTS)}, got {sorted(unknown)}')


def evenly_spaced(items: Sequence, count: int) -> list:
    """Return `count` evenly spaced items, or all if there are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, count).round()]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what ONNX Runtime's quantiser prints and logs."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
