"""What can be tested without TensorRT: the support list, types of the graph, files, and our use of its API."""

import itertools
import sys

import fake_tensorrt
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from rtmdet_cli.main import main
from rtmdet_plugin.export.convert import read_info
from rtmdet_plugin.export.graph_parts import find_parts
from rtmdet_plugin.export.onnx_export import DYNAMIC, export_onnx
from rtmdet_plugin.quantization.quantize import quantize_onnx
from rtmdet_plugin.tensorrt.engine import build_engine, input_shapes, prepare_graph, prepare_trtexec
from rtmdet_plugin.tensorrt.support import find_unsupported
from rtmdet_runtime import FORMS, ModelInfo, RTMDetector


@pytest.fixture(scope='module')
def exported(random_model, tmp_path_factory):
    """A function from export format, dynamic axes and opset to the file."""
    folder = tmp_path_factory.mktemp('exported')

    def get(form, dynamic='none', opset=17, size='nano'):
        path = folder / f'{form}_{dynamic}_{opset}_{size}.onnx'
        if not path.exists():
            settings = dict(form=form, dynamic=dynamic, size=(64, 64), opset=opset)
            export_onnx(random_model(size), path, for_map=True, **settings)  # random weights have low scores
        return path

    return get


@pytest.fixture(scope='module')
def quantized(exported, shape_images, tmp_path_factory):
    """A model of the format trt in INT8, with the default parts in float."""
    path = tmp_path_factory.mktemp('quantized') / 'q.onnx'
    quantize_onnx(exported('trt'), path, shape_images[:2], target='tensorrt', tolerance=1, threads=1)
    return path


class TestSupportList:
    @pytest.mark.parametrize(
        ('form', 'dynamic', 'opset'),
        [
            pytest.param(form, dynamic, opset, marks=() if opset == 17 and dynamic != 'batch' else pytest.mark.slow)
            for form, dynamic, opset in itertools.product(FORMS, DYNAMIC, (17, 18))
        ],
    )
    def test_every_graph_is_on_it(self, exported, form, dynamic, opset):
        assert find_unsupported(onnx.load(exported(form, dynamic, opset))) == []

    def test_exponential_distances_are_on_it(self, exported):
        model = onnx.load(exported('trt', size='m'))
        assert 'Exp' in {node.op_type for node in model.graph.node} and find_unsupported(model) == []

    @pytest.mark.parametrize(
        ('node', 'kind', 'said'),
        [
            (
                helper.make_node('Unique', ['x'], ['y'], 'n'),
                TensorProto.FLOAT,
                'Unique n: TensorRT does not support the operator',
            ),
            (
                helper.make_node('Relu', ['x'], ['y'], 'n', domain='mine'),
                TensorProto.FLOAT,
                'TensorRT does not support the operator',
            ),
            (helper.make_node('Relu', ['x'], ['y'], 'n'), TensorProto.INT32, 'Relu n: TensorRT does not support INT32'),
            (
                helper.make_node('Add', ['x', 'x'], ['y'], 'n'),
                TensorProto.UINT8,
                'Add n: TensorRT does not support UINT8',
            ),
            (helper.make_node('Unsqueeze', ['x', 'x'], ['y'], 'n'), TensorProto.INT64, 'input x must be a constant'),
            (
                helper.make_node('Resize', ['x'], ['y'], 'n', mode='cubic'),
                TensorProto.FLOAT,
                'Resize n: mode must be one of nearest, linear, got cubic',
            ),
        ],
    )
    def test_what_is_not_on_it(self, node, kind, said):
        value = helper.make_tensor_value_info('x', kind, [1])
        graph = helper.make_graph([node], 'g', [value], [helper.make_tensor_value_info('y', kind, [1])])
        problems = find_unsupported(helper.make_model(graph))
        assert len(problems) == 1 and said in problems[0]

    @pytest.mark.parametrize(
        ('operator', 'inputs', 'outputs', 'said'),
        [
            ('Where', ['bool', 'float', 'float'], 'float', None),
            ('Where', ['bool', 'float', 'uint8'], 'float', 'TensorRT does not support UINT8'),
            ('Where', ['bool', 'uint8', 'float'], 'float', 'TensorRT does not support UINT8'),
            *[
                (operator, ['float', 'uint8'], 'float', 'TensorRT does not support UINT8')
                for operator in ('Add', 'Concat', 'Div', 'Min', 'Mul', 'Sub')
            ],
            ('Min', ['float', 'float', 'uint8'], 'float', 'TensorRT does not support UINT8'),
            ('Conv', ['float', 'weights'], 'float', None),
            ('Conv', ['float', 'float'], 'float', 'input float must be a constant'),
            ('MaxPool', ['float'], 'float', None),
            ('MaxPool', ['float'], 'float int64', 'TensorRT does not support its output Indices'),
            ('NonMaxSuppression', ['float', 'float', 'weights', 'weights', 'weights'], 'int64', None),
            ('NonMaxSuppression', ['float'] * 2, 'int64', None),
            (
                'NonMaxSuppression',
                ['float'] * 2 + ['int64', *['weights'] * 2],
                'int64',
                'input int64 must be a constant',
            ),
            ('NonMaxSuppression', ['float'] * 2 + ['', 'scale', ''], 'int64', 'input scale must be a constant'),
            ('NonMaxSuppression', ['float'] * 2 + ['', '', 'scale'], 'int64', 'input scale must be a constant'),
        ],
    )
    def test_inputs_beside_the_first_and_outputs(self, operator, inputs, outputs, said):
        kinds = dict(float=1, scale=1, uint8=2, int64=7, bool=9)
        outputs = {f'{kind} out': kinds[kind] for kind in outputs.split()}
        node = helper.make_node(operator, inputs, [*outputs], 'n')
        given, made = (
            [helper.make_tensor_value_info(name, kind, [1]) for name, kind in values.items()]
            for values in (kinds, outputs)
        )
        weights = onnx.numpy_helper.from_array(np.ones(1, np.float32), 'weights')
        problems = find_unsupported(helper.make_model(helper.make_graph([node], 'g', given, made, [weights])))
        assert problems == ([f'{operator} n: {said}'] if said else [])

    def test_types_of_constants(self):
        constant = helper.make_node(
            'Constant', [], ['c'], 'n', value=onnx.numpy_helper.from_array(np.ones(1, np.uint8))
        )
        graph = helper.make_graph([constant], 'g', [], [helper.make_tensor_value_info('c', TensorProto.UINT8, [1])])
        assert find_unsupported(helper.make_model(graph)) == ['Constant n: TensorRT does not support UINT8']

    def test_weights_that_are_equal_to_others(self):
        nodes = [helper.make_node('Identity', ['w'], ['v'], 'i'), helper.make_node('Conv', ['x', 'v'], ['y'], 'n')]
        given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 1]) for name in 'xy')
        weights = onnx.numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), 'w')
        assert find_unsupported(helper.make_model(helper.make_graph(nodes, 'g', [given], [made], [weights]))) == []

    @pytest.mark.parametrize('of', ['weights', 'x'])
    def test_weights_from_pairs(self, of):
        """Quantised constants count as constant weights; a quantised activation doesn't."""
        nodes = [
            helper.make_node('QuantizeLinear', [of, 'scale', 'zero'], ['q'], 'q'),
            helper.make_node('DequantizeLinear', ['q', 'scale', 'zero'], ['dq'], 'dq'),
            helper.make_node('Conv', ['x', 'dq'], ['y'], 'n'),
        ]
        tensors = dict(weights=np.ones((1, 1, 1, 1), np.float32), scale=np.float32(1), zero=np.int8(0))
        given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 1]) for name in 'xy')
        graph = helper.make_graph(
            nodes, 'g', [given], [made], [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
            value_info=[helper.make_tensor_value_info('q', TensorProto.INT8, [1, 1, 1, 1])],
        )  # fmt: skip
        expected = [] if of == 'weights' else ['Conv n: input dq must be a constant']
        assert find_unsupported(helper.make_model(graph)) == expected

    def test_quantised_for_tensorrt(self, quantized):
        model = onnx.load(quantized)
        assert find_unsupported(model) == []
        assert 'QuantizeLinear' in {node.op_type for node in model.graph.node}

    @pytest.mark.parametrize(
        ('change', 'said'),
        [
            (dict(zero_point=np.uint8(0)), 'zero points must be INT8 zeros, got UINT8, 0 to 0'),
            (dict(zero_point=np.int8(-3)), 'zero points must be INT8 zeros, got INT8, -3 to -3'),
            (dict(zero_point=None), 'the zero point must be INT8 zeros, got none, which means UINT8'),
            (dict(scale=np.float32(0)), 'scales must be above 0, got 0.0'),
            (dict(scale=None), 'scale must be constant'),
            (dict(scale=np.ones(3, np.float32)), 'an activation must have one scale, got one per channel'),
            (dict(scale=np.ones(3, np.float32), of='weights', axis=1), 'axis must be 0, the output channels, got 1'),
            (dict(scale=np.ones(3, np.float32), of='weights', axis=0), None),
            ({}, None),
        ],
    )
    def test_pairs(self, change, said):
        """Each of the two nodes of a pair is checked."""
        values = dict(scale=np.float32(0.1), zero_point=np.int8(0), of='x', axis=0) | change
        tensors = {name: values[name] for name in ('scale', 'zero_point') if values[name] is not None}
        inputs = ['scale', 'zero_point'] if values['zero_point'] is not None else ['scale']
        nodes = [
            helper.make_node('QuantizeLinear', [values['of'], *inputs], ['q'], 'n', axis=values['axis']),
            helper.make_node('DequantizeLinear', ['q', *inputs], ['y'], 'n', axis=values['axis']),
        ]
        given = [helper.make_tensor_value_info('x', TensorProto.FLOAT, [3, 3])]
        given += [helper.make_tensor_value_info('scale', TensorProto.FLOAT, [])] if values['scale'] is None else []
        graph = helper.make_graph(
            nodes, 'g', given, [helper.make_tensor_value_info('y', TensorProto.FLOAT, [3, 3])],
            [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
            + [onnx.numpy_helper.from_array(np.ones((3, 3), np.float32), 'weights')],
            value_info=[helper.make_tensor_value_info('q', TensorProto.INT8, [3, 3])],
        )  # fmt: skip
        problems = find_unsupported(helper.make_model(graph))
        assert problems == [f'{kind} n: {said}' for kind in ('QuantizeLinear', 'DequantizeLinear') if said]


def test_shapes_and_what_trtexec_needs(exported, tmp_path):
    assert input_shapes(exported('trt')) is None
    path, engine = exported('trt', 'all'), tmp_path / 'm.engine'
    shapes = input_shapes(path, (1, 4, 8), ((64, 64), (64, 96), (128, 96)))
    assert shapes == ((1, 3, 64, 64), (4, 3, 64, 96), (8, 3, 128, 96))
    assert prepare_trtexec(path, engine, precision='fp32', shapes=shapes, timing_cache='t.cache') == [
        'trtexec', f'--onnx={engine}.onnx', f'--saveEngine={engine}', '--stronglyTyped', '--noTF32',
        '--minShapes=images:1x3x64x64', '--optShapes=images:4x3x64x96', '--maxShapes=images:8x3x128x96',
        '--timingCacheFile=t.cache',
    ]  # fmt: skip
    assert ModelInfo.from_file(tmp_path / 'm.engine.json', engine) == read_info(path)
    assert onnx.load(f'{engine}.onnx') == onnx.load(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['m.engine.json', 'm.engine.onnx']


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(batches=(2, 1, 8)), r'batches must be \(smallest, usual, largest\)'),
        (dict(sizes=((64, 64),) * 2 + ((60, 64),)), 'multiples of 32'),
        (dict(sizes=((64, 64), (96, 96), (64, 96))), r'sizes must be \(smallest, usual, largest\)'),
    ],
)
def test_profiles_that_can_not_be(exported, settings, said):
    with pytest.raises(ValueError, match=said):
        input_shapes(exported('trt', 'all'), **settings)


@pytest.mark.parametrize('settings', [dict(batches=(1, 1, 8)), dict(sizes=((64, 64),) * 3)])
def test_a_profile_for_a_model_that_has_none(exported, settings):
    with pytest.raises(ValueError, match='batches and sizes must be None for .* fixed batch and size'):
        input_shapes(exported('trt'), **settings)


class TestPrecision:
    """`prepare_graph` passes ONNX's checker on the graph for TensorRT."""

    @pytest.mark.parametrize('opset', [17, pytest.param(18, marks=pytest.mark.slow)])
    def test_fp16_is_all_but_the_decoding(self, exported, opset):
        for form in ('raw', 'trt'):
            model = prepare_graph(exported(form, opset=opset), 'fp16')
            kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
            nodes = {node.name: node for node in model.graph.node}
            decode = {name for name in find_parts(model.graph)['decode'] if nodes[name].op_type != 'Cast'}
            of_float = {n for n, node in nodes.items() if kinds.get(node.output[0]) == TensorProto.FLOAT} - decode
            assert {nodes[name].op_type for name in of_float} <= {'Cast', 'Constant'}
            assert not {name for name in decode if kinds.get(nodes[name].output[0]) == TensorProto.FLOAT16}
            assert {kinds[node.output[0]] for node in nodes.values() if node.op_type == 'Conv'} == {TensorProto.FLOAT16}
            assert [*map(kinds.get, ('cls_8', 'reg_32') if form == 'raw' else ('boxes', 'scores'))] == [1, 1]
            assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
            assert find_unsupported(model) == []

    @pytest.mark.parametrize('form', ['raw', 'decoded'])
    def test_fp16_computes_the_same(self, exported, form):
        path = exported(form, 'all')
        models = onnx.load(path), prepare_graph(path, 'fp16')
        images = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
        for ours, theirs in zip(*(run(model, images) for model in models), strict=True):
            assert 0 < np.abs(ours - theirs).max() < 0.02 * np.abs(ours).max()

    def test_int8_keeps_its_pairs_in_float32(self, quantized):
        model = prepare_graph(quantized, 'int8')
        kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
        makers = {name: node for node in model.graph.node for name in node.output}
        int8, half = [], []
        for conv in (node for node in model.graph.node if node.op_type == 'Conv'):
            from_pairs = [makers[name].op_type if name in makers else None for name in conv.input[:2]]
            if 'DequantizeLinear' in from_pairs:
                assert from_pairs == ['DequantizeLinear'] * 2 and kinds[conv.output[0]] == TensorProto.FLOAT
            (int8 if 'DequantizeLinear' in from_pairs else half).append(conv)
        assert len(int8) > 100 and len(half) >= 10  # attention and predictions
        assert {kinds[conv.output[0]] for conv in half} == {TensorProto.FLOAT16}
        assert find_unsupported(model) == []


def test_a_precision_that_does_not_go_with_the_graph(exported, quantized, shape_images, tmp_path):
    for_others = tmp_path / 'q.onnx'
    quantize_onnx(exported('decoded'), for_others, shape_images[:1], tolerance=1, threads=1)
    not_for_tensorrt = (
        r'q.onnx must be .* TensorRT supports, got .*Linear .*UINT8.* more; quantise it with --target tensorrt'
    )
    for source, precision, said in (
        (exported('trt'), 'int8', 'must be quantised .* without QuantizeLinear'),
        (exported('trt'), 'fp8', "precision must be one of fp32, fp16, int8, got 'fp8'"),
        (quantized, 'fp16', "precision must be int8 for the quantised graph .* got 'fp16'"),
        (for_others, 'int8', not_for_tensorrt),
    ):
        with pytest.raises(ValueError, match=said):
            prepare_graph(source, precision)


@pytest.mark.parametrize('name', ['m.engine', 'm.engine.json', 'm.engine.onnx', 'cache'])
def test_places_that_can_not_be_written_come_before_the_work(exported, tmp_path, fake, name):
    (tmp_path / name).mkdir()
    settings = dict(timing_cache=tmp_path / 'cache')
    if name != 'cache':  # trtexec's own
        arguments = ['engine', str(exported('trt')), '-o', str(tmp_path / 'm.engine'), '--for-trtexec']
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 1 and f'{name} can not be written: it must be a file' in done.output, done.output
    if name != 'm.engine.onnx':
        with pytest.raises(OSError, match=f'{name} can not be written: it must be a file'):
            build_engine(exported('trt'), tmp_path / 'm.engine', **settings)
        assert 'flags' not in fake[0].said
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_file_is_read_once(exported, monkeypatch):
    path, load, read = exported('trt', 'all'), onnx.load, []
    monkeypatch.setattr(onnx, 'load', lambda *args, **settings: read.append(args) or load(*args, **settings))
    prepare_graph(path, 'fp16')
    assert read == [(path,)]
    input_shapes(path)
    assert len(read) == 2


def run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider']).run(
        None, {'images': images}
    )


@pytest.fixture
def fake(monkeypatch):
    """The stand-ins for `tensorrt` and `cuda.bindings.runtime`."""
    return fake_tensorrt.install(monkeypatch)


class TestBuilder:
    """`build_engine` with the stand-ins; the real one needs a GPU, see test_on_gpu.py."""

    def test_engine_and_its_metadata(self, exported, tmp_path, fake):
        path, engine = exported('trt', 'all'), tmp_path / 'out' / 'm.engine'
        shapes = input_shapes(path, (1, 2, 4))
        (tmp_path / 't.cache').write_bytes(b'before, ')
        build_engine(path, engine, precision='fp16', shapes=shapes, timing_cache=tmp_path / 't.cache')
        trt, _ = fake
        said = dict(plugins='', flags=1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED, profile=[*shapes])
        assert trt.said == {**said, 'timing_cache': b'before, '}
        assert (tmp_path / 't.cache').read_bytes() == b'before, timed'
        assert sorted(file.name for file in engine.parent.iterdir()) == ['m.engine', 'm.engine.json']
        detector = RTMDetector(engine)
        assert detector.info == read_info(path) and (detector.backend.batch, detector.backend.size) == (None, (64, 64))
        build_engine(path, engine, precision='fp32', shapes=shapes)
        assert trt.said['cleared'] == 'TF32'

    @pytest.mark.parametrize('form', ['raw', 'decoded', 'nms', 'trt'])
    def test_each_form_finds_what_onnxruntime_finds(self, exported, tmp_path, fake, form):
        build_engine(exported(form), tmp_path / 'm.engine', precision='fp32')
        image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        found = RTMDetector(tmp_path / 'm.engine').predict(image)
        expected = RTMDetector(exported('decoded' if form == 'trt' else form)).predict(image)
        assert len(found) == len(expected) > 100
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)


def test_a_builder_that_fails_leaves_no_file(exported, tmp_path, fake, monkeypatch):
    trt, cuda = fake
    engine = tmp_path / 'm.engine'

    def said(kind, source='trt', path=engine) -> str:
        with pytest.raises(kind) as caught:
            build_engine(exported(source, 'all'), path)
        return str(caught.value)

    assert 'path must end in .engine' in said(ValueError, path=tmp_path / 'm.plan')
    assert 'TensorRT 11.0 can not build' in said(RuntimeError)  # because there is no profile
    monkeypatch.setattr(fake_tensorrt.Builder, 'parse', lambda *args: False)
    monkeypatch.setattr(fake_tensorrt.Builder, 'get_error', lambda *args: 'its reason', raising=False)
    assert 'TensorRT 11.0 can not parse' in (message := said(RuntimeError)) and 'its reason' in message
    cuda.device = False
    assert 'TensorRT 11.0 does not start here; it needs an NVIDIA GPU' in said(RuntimeError)
    trt.NetworkDefinitionCreationFlag = object()
    assert 'tensorrt must be version 10 or later' in said(RuntimeError)
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    assert 'm.engine (without --for-trtexec) needs tensorrt, which is not installed: ' in said(ImportError)
    assert not list(tmp_path.iterdir())


def test_command(exported, tmp_path):
    arguments = ['engine', str(exported('trt', 'all')), '-o', str(tmp_path / 'm.engine'), '--for-trtexec']
    done = CliRunner().invoke(main, [*arguments, '--batches', '1', '2', '4'])
    assert done.exit_code == 0 and '--optShapes=images:2x3x64x64' in done.output, done.output
    assert sorted(file.name for file in tmp_path.iterdir()) == ['m.engine.json', 'm.engine.onnx']
    done = CliRunner().invoke(main, [*arguments, '--min-size', '64', '64'])
    assert done.exit_code == 1 and '--min-size, --opt-size and --max-size must be given together' in done.output
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0 and '--maxShapes=images:8x3x64x64' in done.output
    # Options without effect are refused, even with the default's values.
    arguments[1] = str(exported('trt'))
    for given in (
        ['--batches', '1', '1', '8'],
        ['--min-size', '32', '32', '--opt-size', '33', '33', '--max-size', '1', '1'],
    ):
        done = CliRunner().invoke(main, [*arguments, *given])
        assert done.exit_code == 1 and 'has a fixed batch and size' in done.output, done.output
