"""INT8 out of an exported float model: post-training static quantisation by ONNX Runtime, as Q/DQ nodes.

Weights have a scale for each channel, activations one for each tensor, whose range comes from pictures that go through
the runtime's own preprocessing. What would lose too much stays in float: parts that are known by their place
(`graph_parts`), and layers that are found by measurement (`sensitivity`). Where the Q/DQ nodes are depends on the
runtime that the file is for (`TARGETS`).
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

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
    """A float model and what its tensors were seen to hold; made once, quantised in as many ways as one likes.

    Args:
        source: file of `export_onnx`. Of the form `trt`, what lies before the plugin is calibrated and quantised.
        images: pictures for calibration, like those that the model is to work on. Results don't depend on their order.
        threads: of ONNX Runtime; None leaves it to it.
        track: see `Track`.

    Raises:
        FileNotFoundError: where the file or a picture isn't there.
        ValueError: where the file isn't one of ours, or quantised already; where there are no pictures, or one can't
            be read.
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
            raise ValueError('no images to calibrate with; accepted: at least one')
        self.model = cut_efficient_nms(self.source) if info.form == 'trt' else self.source
        if any(node.op_type == 'QuantizeLinear' for node in self.model.graph.node):
            raise ValueError(f'{source}: it is quantised already; accepted: a float model')
        self.images, self.threads, self.track = list(images), threads, track
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(self.model, path := Path(folder) / 'model.onnx')
            self.detector = RTMDetector(path, threads=threads)
        self.parts = find_parts(self.model.graph)
        self.observations = observe(self.model, self._tensors(), self._tracked_inputs, threads)

    def input_of(self, image: str | Path) -> np.ndarray:
        """The network's input (B, 3, H, W) from a picture; a fixed batch is the picture again and again, not black."""
        inputs, _ = self.detector.preprocess([image])
        return np.ascontiguousarray(np.broadcast_to(inputs[:1], inputs.shape))

    def inputs(self, count: int | None = None) -> Iterator[np.ndarray]:
        """The network's inputs, one picture each; `count` of them, evenly spaced."""
        return map(self.input_of, evenly_spaced(self.images, count or len(self.images)))

    def _tracked_inputs(self, description: str) -> Iterator[np.ndarray]:
        return self.track(self.inputs(), description=description, total=len(self.images))

    def _tensors(self) -> list[str]:
        graph = self.model.graph
        # NMS has tensors without values where nothing is found; it is never quantised.
        decode = set(self.parts['decode']) if self.detector.info.form == 'nms' else set()
        kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}
        made = [name for node in graph.node if node.name not in decode for name in node.output]
        floats = [name for name in made if kinds.get(name) == onnx.TensorProto.FLOAT]
        return [graph.input[0].name, *floats]

    def ranges(self, method: str, percentile: float = 99.99) -> dict[str, Range]:
        """The range of each tensor, see `value_range`."""
        return {name: value_range(seen, method, percentile) for name, seen in self.observations.items()}

    def layer_errors(
        self, ranges: Mapping[str, Range], keep_float: Iterable[str], target: str, count: int = 8
    ) -> dict[str, float]:
        """See `measure_layers`; with `count` of the pictures."""
        layers = find_layers(self.model.graph, self._nodes_of(keep_float), target)
        return measure_layers(self.model, layers, ranges, list(self.inputs(count)), self.threads, self.track)

    def fragile_layers(
        self, ranges: Mapping[str, Range], keep_float: Iterable[str], tolerance: float, target: str
    ) -> dict[str, float]:
        """The layers that alone change the scores by more than the tolerance, and by how much; none where it is 1."""
        errors = self.layer_errors(ranges, keep_float, target) if tolerance < 1 else {}
        return {name: error for name, error in errors.items() if error > tolerance}

    def float_nodes(self, keep_float: Iterable[str], layers: Iterable[str], target: str) -> list[str]:
        """Names of the nodes that have to stay in float for parts and layers to do so, see `quantize`."""
        links, layers = GraphLinks(self.model.graph), set(layers)
        names = self._nodes_of(keep_float) | layers
        for layer, tensors in find_layers(self.model.graph, (), target).items():
            if layer in layers and target == 'onnxruntime':  # its tensors stay in float where all that touch them do
                names.update(name for tensor in tensors for name in links.around(tensor))
        return sorted(names)

    def _nodes_of(self, parts: Iterable[str]) -> set[str]:
        """Names of the nodes of parts; in the form `nms` of decode as well."""
        parts = {*parts, 'decode'} if self.detector.info.form == 'nms' else parts
        return {name for part in parts for name in self.parts[part]}

    def quantize(
        self, ranges: Mapping[str, Range], keep_float: Iterable[str], layers: Iterable[str], target: str
    ) -> onnx.ModelProto:
        """The model with Q/DQ nodes, and with its metadata.

        Args:
            ranges: see `ranges`.
            keep_float: parts of `PARTS` to leave in float; in the form `nms` always `decode` as well.
            layers: names of convolutions that are to stay in float, see `find_layers`.
            target: one of `TARGETS`.
        """
        tensorrt = target == 'tensorrt'
        settings = dict(ActivationSymmetric=tensorrt, QuantizeBias=not tensorrt, AddQDQPairToWeight=tensorrt)
        if target != 'onnxruntime':
            settings['OpTypesToExcludeOutputQuantization'] = ['Conv']
        values = {name: tuple(map(np.float32, ends)) for name, ends in ranges.items()}
        # `quantize_static` would calibrate anew: it takes ranges from releases on that Python 3.10 doesn't get.
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
    """Write an INT8 form of a model; whole or not at all.

    Args:
        source, images, threads, track: see `Calibration`.
        path: file to write (.onnx).
        method: how a range is found, one of `METHODS`, see `value_range`.
        percentile: of the method of that name.
        keep_float: parts to leave in float, of `PARTS`.
        tolerance: a layer stays in float where 8 bits in it alone change the scores by more than this, see
            `measure_layers`; 1 keeps none and measures nothing.
        target: the runtime that the file is for, one of `TARGETS`; of the form `trt` only tensorrt.

    Returns:
        The layers that stay in float: names of convolutions, and their error.

    Raises:
        FileNotFoundError, ValueError: see `Calibration`; ValueError as well for a value that isn't accepted.
    """
    if method not in METHODS:
        raise ValueError(f'method={method!r}; accepted: {", ".join(METHODS)}')
    if not 50 < percentile <= 100:
        raise ValueError(f'percentile={percentile}; accepted: above 50, up to 100')
    check_settings(keep_float, tolerance)
    if target not in TARGETS:
        raise ValueError(f'target={target!r}; accepted: {", ".join(TARGETS)}')
    if target != 'tensorrt' and read_info(source).form == 'trt':
        raise ValueError(f'{source}: target={target!r}; accepted for the form trt: tensorrt')
    if Path(path).suffix != '.onnx':
        raise ValueError(f'{path}: accepted: a name that ends in .onnx; `rtmdet quantize` takes .xml as well')
    calibration = Calibration(source, images, threads, track)
    ranges = calibration.ranges(method, percentile)
    layers = calibration.fragile_layers(ranges, keep_float, tolerance, target)
    write_onnx(calibration.quantize(ranges, keep_float, layers, target), path)
    return layers


def check_settings(keep_float: Sequence[str], tolerance: float) -> None:
    """Raise a `ValueError` for a part that there isn't, or a tolerance that can't be."""
    if not 0 <= tolerance <= 1:
        raise ValueError(f'tolerance={tolerance}; accepted: 0 to 1')
    if unknown := set(keep_float) - set(PARTS):
        raise ValueError(f'keep_float={sorted(unknown)}; accepted: {", ".join(PARTS)}')


def evenly_spaced(items: Sequence, count: int) -> list:
    """`count` of the items, or all where there are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, count).round()]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what ONNX Runtime's quantiser prints and logs of itself."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
