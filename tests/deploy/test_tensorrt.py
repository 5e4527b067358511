"""What of TensorRT can be seen without it: the published list, shapes, commands. Building needs it and a GPU."""

import itertools
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from rtmdet_plugin.deploy.onnx_export import DYNAMIC, export_onnx
from rtmdet_plugin.deploy.tensorrt import build_engine, check_graph, input_shapes, trtexec_command
from rtmdet_plugin.deploy.tensorrt_support import find_unsupported
from rtmdet_runtime import FORMS


@pytest.fixture(scope='module')
def exported(random_model, tmp_path_factory):
    """A function: form, dynamic axes and opset -> the file."""
    folder = tmp_path_factory.mktemp('exported')

    def get(form, dynamic='none', opset=17, size='nano'):
        path = folder / f'{form}_{dynamic}_{opset}_{size}.onnx'
        if not path.exists():
            export_onnx(random_model(size), path, form=form, dynamic=dynamic, size=(64, 64), opset=opset)
        return path

    return get


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
            (helper.make_node('Unique', ['x'], ['y'], 'n'), TensorProto.FLOAT, 'Unique n: the operator is not on'),
            (helper.make_node('Relu', ['x'], ['y'], 'n', domain='mine'), TensorProto.FLOAT, 'the operator is not on'),
            (helper.make_node('Relu', ['x'], ['y'], 'n'), TensorProto.INT32, 'Relu n: INT32 is not on the list'),
            (helper.make_node('Add', ['x', 'x'], ['y'], 'n'), TensorProto.UINT8, 'Add n: type 2 of x is not on'),
            (helper.make_node('Unsqueeze', ['x', 'x'], ['y'], 'n'), TensorProto.INT64, 'input x is not a constant'),
            (
                helper.make_node('Resize', ['x'], ['y'], 'n', mode='cubic'),
                TensorProto.FLOAT,
                'Resize n: mode=cubic is not on the list',
            ),
        ],
    )
    def test_what_is_not_on_it(self, node, kind, said):
        value = helper.make_tensor_value_info('x', kind, [1])
        graph = helper.make_graph([node], 'g', [value], [helper.make_tensor_value_info('y', kind, [1])])
        problems = find_unsupported(helper.make_model(graph))
        assert len(problems) == 1 and said in problems[0]


def test_shapes_and_command(exported):
    assert input_shapes(exported('trt')) is None
    path = exported('trt', 'all')
    shapes = input_shapes(path, (1, 4, 8), ((64, 64), (64, 96), (128, 96)))
    assert shapes == ((1, 3, 64, 64), (4, 3, 64, 96), (8, 3, 128, 96))
    assert trtexec_command(path, 'm.engine', precision='int8', shapes=shapes, timing_cache='t.cache') == [
        'trtexec', f'--onnx={path}', '--saveEngine=m.engine', '--int8', '--fp16', '--minShapes=images:1x3x64x64',
        '--optShapes=images:4x3x64x96', '--maxShapes=images:8x3x128x96', '--timingCacheFile=t.cache',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(batches=(2, 1, 8)), 'batches=.* accepted: smallest, usual, largest'),
        (dict(sizes=((64, 64),) * 2 + ((60, 64),)), 'multiples of 32'),
        (dict(sizes=((64, 64), (96, 96), (64, 96))), 'accepted: smallest, usual, largest'),
    ],
)
def test_profiles_that_can_not_be(exported, settings, said):
    with pytest.raises(ValueError, match=said):
        input_shapes(exported('trt', 'all'), **settings)


def test_int8_needs_a_quantised_graph(exported):
    with pytest.raises(ValueError, match='no QuantizeLinear'):
        check_graph(exported('trt'), 'int8')
    with pytest.raises(ValueError, match="precision='fp8'; accepted: fp32, fp16, int8"):
        check_graph(exported('trt'), 'fp8')


def test_without_tensorrt_the_error_has_the_command(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(ImportError, match='tensorrt, which is not installed; elsewhere: trtexec --onnx=.* --fp16'):
        build_engine(exported('trt'), tmp_path / 'm.engine')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_engine(exported, tmp_path, precision):
    pytest.importorskip('tensorrt', reason='tensorrt is not installed: its builder needs an NVIDIA GPU')
    path = exported('trt', 'all')
    build_engine(
        path, tmp_path / 'm.engine', precision=precision, shapes=input_shapes(path), timing_cache=tmp_path / 't.cache'
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ['m.engine', 'm.json', 't.cache']
