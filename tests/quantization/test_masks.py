"""INT8 of models with masks: the layers that only masks depend on are measured, and masks stay the same."""

import cv2
import numpy as np
import onnx
import pytest
from oracle import build_small_ins

from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.quantization.quantize import Calibration
from rtmdet_plugin.quantization.sensitivity import find_layers, measure_layers
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.choices import FLOAT_PARTS


@pytest.fixture(scope='module')
def calibration(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('ins')
    export_onnx(build_small_ins(), folder / 'm.onnx', form=request.param, size=(64, 96), opset=17, score_thr=0.3)
    noise = np.random.default_rng(0).normal(113, 57, (2, 64, 96, 3)).clip(0, 255).astype(np.uint8)
    for number, image in enumerate(noise):
        cv2.imwrite(str(folder / f'{number}.png'), image)
    return Calibration(folder / 'm.onnx', sorted(folder.glob('*.png')), threads=1)


@pytest.mark.parametrize('calibration', ['raw', 'nms'], indirect=True)
def test_layers_of_the_masks_are_measured(calibration):
    graph = calibration.model.graph
    weights = {node.name: node.input[1] for node in graph.node if node.op_type == 'Conv'}
    excluded = [name for part in FLOAT_PARTS for name in calibration.parts[part]]
    layers = {
        name: tensors
        for name, tensors in find_layers(graph, excluded, 'onnxruntime').items()
        if any(part in weights[name] for part in ('kernel_convs.0', 'stacked_convs', 'cls_convs.0.0'))
    }
    assert len(layers) == 2 + 4 + 1
    ranges = calibration.ranges('minmax')
    inputs = [*calibration.inputs()]
    errors = measure_layers(calibration.model, layers, ranges, inputs, threads=1)
    assert all(0 < error < 0.05 for error in errors.values())
    for bad in list(layers)[1::2]:
        coarse = ranges | {tensor: (-100.0, 100.0) for tensor in layers[bad]}
        found = measure_layers(calibration.model, {bad: layers[bad]}, coarse, inputs, threads=1)
        assert found[bad] > 5 * errors[bad]


@pytest.mark.parametrize('calibration', ['nms'], indirect=True)
def test_masks_in_int8(calibration, tmp_path):
    """Random weights amplify differences, so masks aren't equal."""
    ranges = calibration.ranges('mse')
    onnx.save(calibration.quantize(ranges, FLOAT_PARTS, (), 'onnxruntime'), tmp_path / 'q.onnx')
    ours = RTMDetector(tmp_path / 'q.onnx', threads=1)
    assert ours.backend.precision == 'INT8 and float32'
    ious = []
    for image in calibration.images:
        found, expected = ours.predict(image), calibration.detector.predict(image)
        distances = np.abs(found.boxes[:, None] - expected.boxes).max(2) + 99 * (
            found.labels[:, None] != expected.labels
        )
        same = np.flatnonzero(distances.min(1) < 3)
        masks, others = found.masks[same].numpy(), expected.masks[distances.argmin(1)[same]].numpy()
        union = (masks | others).sum((1, 2))
        ious += ((masks & others).sum((1, 2))[union > 0] / union[union > 0]).tolist()
    assert len(ious) > 10 and 0.6 < np.mean(ious) < 1
