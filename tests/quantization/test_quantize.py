"""INT8 keeps its accuracy; some layers stay in float; wrong arguments are refused."""

import copy
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from mmengine.config import Config
from samples import ROOT

from rtmdet_cli.main import main
from rtmdet_plugin.checkpoints.load_model import load_model
from rtmdet_plugin.export.graph_parts import GraphLinks, find_parts
from rtmdet_plugin.export.nms_nodes import cut_efficient_nms
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference.evaluation import evaluate
from rtmdet_plugin.quantization.nncf_int8 import quantize_openvino
from rtmdet_plugin.quantization.quantize import FLOAT_PARTS, TARGETS, Calibration, evenly_spaced, quantize_onnx
from rtmdet_plugin.quantization.sensitivity import find_layers, measure_layers, round_weights
from rtmdet_plugin.tensorrt.engine import check_graph, prepare_graph
from rtmdet_runtime import RTMDetector


@pytest.fixture(scope='module')
def model(shapes_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('float') / 'm.onnx'
    export_onnx(shapes_model, path, opset=17, for_map=True)
    return path


@pytest.fixture(scope='module')
def pictures(shape_images) -> list[Path]:
    return shape_images[:3]


@pytest.fixture(scope='module')
def calibration(model, pictures) -> Calibration:
    return Calibration(model, pictures, threads=1)


@pytest.mark.parametrize('opset', [pytest.param(17, marks=pytest.mark.slow), 18])
def test_parts_are_found_by_their_place(shapes_model, opset, tmp_path):
    export_onnx(shapes_model, tmp_path / 'm.onnx', opset=opset)
    graph = onnx.load(tmp_path / 'm.onnx').graph
    nodes = {node.name: node for node in graph.node}
    parts = find_parts(graph)
    weights = {part: [nodes[n].input[1] for n in names if nodes[n].op_type == 'Conv'] for part, names in parts.items()}
    last = [f'maps.model.bbox_head.rtm_{kind}.{i}.weight' for i in range(3) for kind in ('cls', 'reg')]
    assert sorted(weights['predictions']) == sorted(last)
    assert weights['stem'] == ['maps.model.backbone.stem.0.conv.weight']
    assert len(weights['attention']) == 4 and all('attention.fc' in name for name in weights['attention'])
    assert len(parts['attention']) == 12
    assert weights['decode'] == []
    made = {name for n in parts['decode'] for name in nodes[n].output}
    assert {'boxes', 'scores'} <= made


def test_keeps_metadata_and_float_parts(calibration, model, pictures, tmp_path):
    layer = next(iter(find_layers(calibration.model.graph, (), 'onnxruntime')))
    quantized = calibration.quantize(calibration.ranges('mse'), FLOAT_PARTS, [layer], 'onnxruntime')
    onnx.save(quantized, tmp_path / 'q.onnx')
    detector = RTMDetector(tmp_path / 'q.onnx', threads=1)
    assert detector.info == RTMDetector(model, threads=1).info
    makers = {name: node.op_type for node in quantized.graph.node for name in node.output}
    nodes = {node.name: node for node in quantized.graph.node}
    for part in FLOAT_PARTS:
        for node in (nodes[name] for name in calibration.parts[part] if nodes[name].op_type == 'Conv'):
            assert makers.get(node.input[1]) != 'DequantizeLinear', node.name
    assert makers.get(nodes[layer].input[1]) != 'DequantizeLinear'
    convs = [node for node in quantized.graph.node if node.op_type == 'Conv']
    int8 = [node for node in convs if makers.get(node.input[1]) == 'DequantizeLinear']
    assert len(int8) >= len(convs) - 6 - 4 - 3
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    dequantize = next(node for node in quantized.graph.node if int8[5].input[1] in node.output)
    assert scales[dequantize.input[1]].size > 1  # one for each channel


@pytest.mark.slow
def test_same_pictures_same_file(model, pictures, tmp_path):
    for name, order in (('a', pictures), ('b', pictures[::-1])):
        quantize_onnx(model, tmp_path / f'{name}.onnx', order, tolerance=1, threads=1)
    assert (tmp_path / 'a.onnx').read_bytes() == (tmp_path / 'b.onnx').read_bytes()


@pytest.mark.parametrize(('form', 'target'), [('decoded', 'tensorrt'), ('raw', 'openvino'), ('nms', 'onnxruntime')])
def test_each_form_finds_what_the_float_model_finds(shapes_model, pictures, form, target, tmp_path):
    export_onnx(shapes_model, tmp_path / 'm.onnx', form=form, opset=17, score_thr=0.3)
    calibration = Calibration(tmp_path / 'm.onnx', pictures, threads=1)
    onnx.save(calibration.quantize(calibration.ranges('mse'), FLOAT_PARTS, (), target), tmp_path / 'q.onnx')
    (tmp_path / 'm.onnx').rename(tmp_path / 'f.onnx')
    expected, found = (RTMDetector(tmp_path / f'{name}.onnx', threads=1).predict(pictures) for name in 'fq')
    sure = [detections.above(0.5) for detections in expected]
    assert sum(map(len, sure)) >= 4
    for ours, theirs in zip(found, sure, strict=True):
        distance = np.abs(theirs.boxes[:, None] - ours.boxes[None]).max(2, initial=0)
        distance[theirs.labels[:, None] != ours.labels] = np.inf
        assert (distance.min(1, initial=np.inf) < 3).all()  # pixels; measured: 0.6


@pytest.mark.slow  # a calibration for each form
@pytest.mark.parametrize('form', ['nms', 'raw', 'decoded'])
def test_nothing_has_to_stay_in_float(shapes_model, pictures, form, tmp_path):
    """Nodes after the predictions don't belong to them: they are never rounded as the predictions' activation."""
    export_onnx(shapes_model, tmp_path / 'm.onnx', form=form, size=(96, 96), opset=17)
    calibration = Calibration(tmp_path / 'm.onnx', pictures[:1], threads=1)
    decode = set(calibration.parts['decode'])
    made = {name for node in calibration.model.graph.node if node.name in decode for name in node.output}
    for target in TARGETS:
        layers = find_layers(calibration.model.graph, (), target)
        assert not made & {tensor for tensors in layers.values() for tensor in tensors}
    assert quantize_onnx(tmp_path / 'm.onnx', tmp_path / 'q.onnx', pictures[:1], keep_float=(), tolerance=0, threads=1)


# For TensorRT the layers are OpenVINO's.
@pytest.mark.parametrize('target', ['onnxruntime', pytest.param('openvino', marks=pytest.mark.slow)])
def test_a_layer_with_outliers_is_found(calibration, target):
    ranges = calibration.ranges('minmax')
    layers = find_layers(calibration.model.graph, [n for part in FLOAT_PARTS for n in calibration.parts[part]], target)
    bad = list(layers)[40]
    ranges |= {tensor: (-1000.0, 1000.0) for tensor in layers[bad]}
    errors = calibration.layer_errors(ranges, FLOAT_PARTS, target, count=1)
    assert set(errors) == set(layers)
    # Layers that read the same tensor have the same error.
    assert errors[bad] > 0.9 * max(errors.values()) and errors[bad] > 5 * np.median(list(errors.values()))
    kept = calibration.float_nodes(FLOAT_PARTS, [bad], target)
    assert bad in kept


def test_layers_are_measured_with_their_weights(calibration):
    """With ranges so fine that tensors keep their values, only the weights are rounded."""
    layer = next(iter(find_layers(calibration.model.graph, (), 'openvino')))
    rounded = onnx.ModelProto()
    rounded.CopyFrom(calibration.model)
    round_weights(rounded, layer)
    name = next(node.input[1] for node in rounded.graph.node if node.name == layer)
    before, after = (
        next(onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)
        for model in (calibration.model, rounded)
    )
    scale = np.abs(before).max(axis=(1, 2, 3), keepdims=True) / 127
    assert np.abs(after - before).max() > 0 and (np.abs(after - before) <= scale * 0.5001).all()
    np.testing.assert_allclose(after / scale, np.round(after / scale), atol=1e-3)
    assert len(np.unique(after[0])) <= 255


def test_layers_are_measured_without_a_sure_score(random_model, pictures, tmp_path):
    """For a model without confident detections, the highest scores are compared."""
    unsure = copy.deepcopy(random_model('nano'))
    for layer in unsure.bbox_head.rtm_cls:
        torch.nn.init.constant_(layer.bias, -6)
    export_onnx(unsure, tmp_path / 'm.onnx', size=(96, 96), opset=17)
    calibration = Calibration(tmp_path / 'm.onnx', pictures, threads=1)
    _, scores = calibration.detector.backend(next(calibration.inputs()))
    ranges = calibration.ranges('minmax')
    layers = find_layers(calibration.model.graph, (), 'openvino')
    # The last layers: the random network passes on so little of the others that rounding them changes nothing.
    last = {name: tensors for name, tensors in layers.items() if 'rtm_cls' in name}
    ranges.update({tensor: (0.0, 1000.0) for tensors in last.values() for tensor in tensors})
    errors = measure_layers(calibration.model, last, ranges, [*calibration.inputs(1)], threads=1)
    assert scores.max() < 0.1 and max(errors.values()) > 1e-5


def ap_in_float_and_int8(model: Path, config: Config, pictures: list[Path], target: str, folder: Path) -> list[float]:
    """Return AP on the config's test set, before and after `model` is quantised with `images`."""
    quantized, backend = folder / 'q.onnx', 'onnxruntime' if target == 'onnxruntime' else 'openvino'
    if target == 'nncf':
        pytest.importorskip('nncf', reason='nncf is not installed')
        quantized = folder / 'q.xml'
        quantize_openvino(model, quantized, pictures, threads=1)
    else:
        quantize_onnx(model, quantized, pictures, target=target, threads=1)
    settings = dict(backend=backend, threads=1, precision='float32')
    detectors = [RTMDetector(file, **settings) for file in (model, quantized)]
    return [evaluate(config, detector)['coco/bbox_mAP'] for detector in detectors]


@pytest.mark.slow
@pytest.mark.parametrize('target', ['onnxruntime', 'openvino', 'nncf'])
def test_ap_is_close_to_float(model, shapes, shapes_config, target, tmp_path):
    pictures = sorted((shapes / 'train').iterdir())
    expected, ours = ap_in_float_and_int8(model, shapes_config(), pictures, target, tmp_path)
    assert expected > 0.6
    assert ours > expected - 0.03


@pytest.mark.slow
def test_ap_of_the_person_weights_is_close_to_float(data_root, weights_root, monkeypatch, tmp_path):
    """AP of the published weights stays within 0.005 of float, calibrated on images of the training set."""
    monkeypatch.setenv('RTMDET_COCO', str(data_root / 'coco_tiny') + '/')
    config = Config.fromfile(ROOT / 'configs' / 'rtmdet_nano_person.py')
    model = load_model(config, weights_root / 'rtmdet_nano_person.pth')
    export_onnx(model, tmp_path / 'm.onnx', opset=17, for_map=True)
    pictures = sorted((data_root / 'coco_tiny' / 'train2017').iterdir())
    expected, ours = ap_in_float_and_int8(tmp_path / 'm.onnx', config, pictures, 'onnxruntime', tmp_path)
    assert expected == pytest.approx(0.264, abs=0.002)
    assert ours > expected - 0.005 - 1e-9


def test_for_tensorrt_has_pairs_at_convolutions_alone(calibration):
    quantized = calibration.quantize(calibration.ranges('minmax'), FLOAT_PARTS, (), 'tensorrt')
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    links = GraphLinks(quantized.graph)
    pairs = [node for node in quantized.graph.node if node.op_type in ('QuantizeLinear', 'DequantizeLinear')]
    points = [values[node.input[2]] for node in pairs]
    assert points and all(point.dtype == np.int8 and not point.any() for point in points)
    for node in pairs:
        after = {reader.op_type for reader in links.following(node)}
        assert 'DequantizeLinear' in after if node.op_type == 'QuantizeLinear' else 'Conv' in after
    convs = [node for node in quantized.graph.node if node.op_type == 'Conv']
    int8 = [node for node in convs if node.input[1] in links.maker]
    assert len(int8) == len(convs) - 10  # attention and predictions
    for node in int8:  # biases and weights are stored in float
        quantize = links.maker[links.maker[node.input[1]].input[0]]
        assert values[node.input[2]].dtype == values[quantize.input[0]].dtype == np.float32
    kinds = {value.name: value.type.tensor_type.elem_type for value in quantized.graph.value_info}
    assert all(kinds[name] for node in quantized.graph.node for name in node.output if name in links.readers)


@pytest.mark.slow  # the same steps as for the other forms
def test_form_trt_is_quantised_up_to_the_plugin(shapes_model, pictures, tmp_path):
    export_onnx(shapes_model, tmp_path / 'm.onnx', form='trt', opset=17, score_thr=0.3)
    layers = quantize_onnx(tmp_path / 'm.onnx', tmp_path / 'q.onnx', pictures, target='tensorrt', threads=1)
    source, quantized = onnx.load(tmp_path / 'm.onnx'), onnx.load(tmp_path / 'q.onnx')
    assert 0 < len(layers) < 40
    for part in ('output', 'input'):
        assert [*getattr(quantized.graph, part)] == [*getattr(source.graph, part)]
    assert [n for n in quantized.graph.node if n.domain] == [n for n in source.graph.node if n.domain]
    assert quantized.metadata_props == source.metadata_props
    check_graph(tmp_path / 'q.onnx', 'int8')

    # The graph that TensorRT gets, up to the plugin, compared with the float model.
    onnx.save(cut_efficient_nms(source), tmp_path / 'float.onnx')
    onnx.save(cut_efficient_nms(prepare_graph(tmp_path / 'q.onnx', 'int8')), tmp_path / 'int8.onnx')
    expected, ours = (RTMDetector(tmp_path / f'{name}.onnx', threads=1) for name in ('float', 'int8'))
    assert expected.info.form == ours.info.form == 'decoded'
    inputs = np.concatenate([expected.preprocess([picture])[0] for picture in pictures])
    (boxes, scores), (our_boxes, our_scores) = (
        [np.concatenate(outputs) for outputs in zip(*(d.backend(x[None]) for x in inputs), strict=True)]
        for d in (expected, ours)
    )
    found = scores.max(2) > 0.3
    assert found.sum() > 20
    assert 0 < np.abs(our_scores - scores)[found].mean() < 0.05
    assert 0 < np.median(np.abs(our_boxes - boxes)[found]) < 2  # pixels


def test_evenly_spaced():
    assert evenly_spaced(range(100), 3) == [0, 50, 99]
    assert evenly_spaced([1, 2], 5) == [1, 2]


def test_says_what_is_accepted(model, pictures, shapes_model, tmp_path):
    out, bad = tmp_path / 'out' / 'q.onnx', tmp_path / 'bad.jpg'
    bad.write_bytes(b'no image')
    foreign, trt = tmp_path / 'foreign.onnx', tmp_path / 'trt.onnx'
    export_onnx(shapes_model, trt, form='trt', opset=17)
    graph = onnx.load(model)
    del graph.metadata_props[:]
    onnx.save(graph, foreign)
    for source, images, arguments, error, message in (
        (model, [], {}, ValueError, 'images must have at least one'),
        (model, [bad], {}, ValueError, 'bytes that are no image'),
        (foreign, pictures, {}, ValueError, 'must be a model that `rtmdet export` wrote'),
        (tmp_path / 'none.onnx', pictures, {}, FileNotFoundError, 'no such model'),
        (model, pictures, dict(method='max'), ValueError, "method must be one of minmax, .* got 'max'"),
        (model, pictures, dict(keep_float=['neck']), ValueError, 'keep_float must be out of stem, attention'),
        (model, pictures, dict(tolerance=-1), ValueError, 'tolerance must be from 0 to 1, got -1'),
        (model, pictures, dict(percentile=3), ValueError, 'percentile must be .* got 3'),
        (
            model,
            pictures,
            dict(target='ncnn'),
            ValueError,
            "target must be one of onnxruntime, openvino, tensorrt, got 'ncnn'",
        ),
        (trt, pictures, {}, ValueError, "target must be tensorrt for the export format trt .* got 'onnxruntime'"),
    ):
        with pytest.raises(error, match=message):
            quantize_onnx(source, out, images, **arguments)
    assert not out.parent.exists() or not list(out.parent.iterdir())
    quantize_onnx(model, out, pictures[:1], tolerance=1, threads=1)
    with pytest.raises(ValueError, match='quantised already'):
        quantize_onnx(out, tmp_path / 'again.onnx', pictures)


def test_command(model, shapes, tmp_path):
    images, out = shapes / 'train', tmp_path / 'q.onnx'

    def call(*arguments) -> tuple[int, str]:
        done = CliRunner().invoke(main, ['quantize', *map(str, arguments)])
        return done.exit_code, done.output

    code, said = call(model, images, '-o', out, '--samples', 2, '--tolerance', 1, '--threads', 1)
    assert code == 0 and 'calibrated on 2 images (mse) for onnxruntime; 0 layers' in said, said
    detector = RTMDetector(out)
    assert (detector.info.form, detector.backend.precision) == ('decoded', 'INT8 and float32')
    (tmp_path / 'empty').mkdir()
    code, said = call(model, tmp_path / 'empty', '-o', tmp_path / 'no.onnx')
    assert code == 1 and 'must be a folder with images' in said
    code, said = call(model, tmp_path / 'none', '-o', tmp_path / 'no.onnx')
    assert code == 1 and 'no such folder' in said
    code, said = call(model, images, '-o', tmp_path / 'no.param')
    assert code == 1 and 'no.param must end in .onnx, .xml' in said
    code, said = call(model, images, '-o', tmp_path / 'no.onnx', '--method', 'nncf')
    assert code == 1 and '--out must end in .xml for --method nncf' in said
    code, said = call(model, images, '-o', tmp_path / 'no.xml', '--target', 'tensorrt')
    assert code == 1 and '--target must be openvino for' in said
    code, said = call(model, images, '-o', model)
    assert code == 1 and 'would replace the input' in said
    xml = tmp_path / 'for_openvino.xml'
    code, said = call(model, images, '-o', xml, '--samples', 2, '--tolerance', 1, '--threads', 1)
    assert code == 0 and '(mse) for openvino; 0 layers' in said, said
    assert RTMDetector(xml).info.form == 'decoded'
    assert RTMDetector(xml, precision='float32').backend.precision == 'INT8 and float32'
    assert xml.with_suffix('.bin').stat().st_size < 0.5 * model.stat().st_size
    assert not list(tmp_path.glob('no.*'))


def test_bad_images_are_left_out_and_listed(random_model, tmp_path):
    model, out, images = tmp_path / 'm.onnx', tmp_path / 'q.onnx', tmp_path / 'images'
    export_onnx(random_model('nano'), model, size=(64, 64), opset=17)
    images.mkdir()
    (images / 'b.jpg').touch()

    def call(*options) -> list[str]:
        done = CliRunner().invoke(main, ['quantize', str(model), str(images), '-o', str(out), *options])
        assert done.exit_code == 1, done.output
        return done.stderr.splitlines()

    said = call()
    assert 'b.jpg must be an image' in said[-2] and 'bad images: 1 of 1' in said[-1] and not out.exists()
    cv2.imwrite(str(images / 'a.png'), np.full((64, 64, 3), 90, np.uint8))
    said = call('--tolerance', '1')
    assert 'b.jpg must be an image' in said[-2] and said[-1].endswith(f'{out} is written, calibrated without them')
    assert RTMDetector(out).info.form == 'decoded'
    # Without a terminal, each step is one line.
    assert said[:-2] == ['Reading images: 2', 'Finding the ends of ranges: 1', 'Counting values: 1']
