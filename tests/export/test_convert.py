"""OpenVINO's and ncnn's files: whole or not at all, and one line for what can't be converted."""

import builtins

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtmdet_plugin.export.convert import read_info, to_ncnn, to_openvino
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_runtime import RTMDetector


@pytest.fixture(scope='module')
def source(random_model, tmp_path_factory):
    """A function: settings of the export -> the file."""
    folder = tmp_path_factory.mktemp('source')

    def get(form='raw', dynamic='none'):
        path = folder / f'{form}_{dynamic}.onnx'
        if not path.exists():
            export_onnx(random_model('nano'), path, form=form, dynamic=dynamic, size=(64, 64), opset=17)
        return path

    return get


def refusal(convert, source, path, kind=ValueError) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(kind) as caught:
        convert(source, path)
    assert '\n' not in str(caught.value) and sorted(path.parent.iterdir()) == before
    return str(caught.value)


@pytest.mark.parametrize(
    ('convert', 'module', 'name', 'files'),
    [
        (to_openvino, 'openvino', 'm.xml', ['m.bin', 'm.xml']),
        (to_ncnn, 'pnnx', 'm.param', ['m.bin', 'm.json', 'm.param']),
    ],
)
def test_all_files_and_no_other(source, tmp_path, convert, module, name, files):
    pytest.importorskip(module)
    convert(source(), tmp_path / 'new' / name)
    assert sorted(file.name for file in (tmp_path / 'new').iterdir()) == files
    assert RTMDetector(tmp_path / 'new' / name).info == read_info(source())


def test_refusals(source, tmp_path):
    assert 'path must end in .xml, got' in refusal(to_openvino, source(), tmp_path / 'm.bin')
    assert 'path must end in .param, got' in refusal(to_ncnn, source(), tmp_path / 'm.onnx')
    assert 'for ncnn, which has no NMS nodes, got nms' in refusal(to_ncnn, source('nms'), tmp_path / 'm.param')
    assert 'fixed size and batch' in refusal(to_ncnn, source('raw', 'batch'), tmp_path / 'm.param')
    for convert, name in ((to_ncnn, 'm.param'), (to_openvino, 'm.xml')):
        assert 'got trt, which needs TensorRT' in refusal(convert, source('trt'), tmp_path / name)
        assert 'no such model' in refusal(convert, tmp_path / 'none.onnx', tmp_path / name, FileNotFoundError)
    (tmp_path / 'bad.onnx').write_text('not an onnx file')
    assert 'bad.onnx must be an ONNX file' in refusal(to_openvino, tmp_path / 'bad.onnx', tmp_path / 'm.xml')
    value = helper.make_tensor_value_info('x', TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node('Relu', ['x'], ['y'])], 'g', [value], [value])
    onnx.save(helper.make_model(graph), tmp_path / 'other.onnx')
    assert 'must be a model that `rtmdet export` wrote' in refusal(
        to_ncnn, tmp_path / 'other.onnx', tmp_path / 'm.param'
    )


def test_what_is_no_model(source, tmp_path):
    for name, content in (('empty', b''), ('page', b'<html>'), ('cut', source().read_bytes()[:99999])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'{name} must be an ONNX file'):
            read_info(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='no such model'):
        read_info(tmp_path)
    onnx.save(onnx.load(source()), tmp_path / 'm.onnx', save_as_external_data=True, location='m.data')
    assert read_info(tmp_path / 'm.onnx') == read_info(source())
    (tmp_path / 'm.data').unlink()
    with pytest.raises(ValueError, match='m.onnx must be a complete ONNX model, .*m.data'):
        read_info(tmp_path / 'm.onnx')


def test_a_graph_with_a_weight_that_is_no_number(source, tmp_path):
    """NMS within the graph hides it from the runtime: it finds nothing then."""
    model = onnx.load(source('nms'))
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / 'nan.onnx')
    said = refusal(to_openvino, tmp_path / 'nan.onnx', tmp_path / 'm.xml')
    assert 'nan.onnx: weights must be finite, got NaN or infinity in 1 of' in said and f'{weight.name} (1 of' in said


@pytest.mark.parametrize(
    ('convert', 'name', 'other'), [(to_openvino, 'm.xml', 'm.param'), (to_ncnn, 'm.param', 'm.xml')]
)
def test_weights_of_another_model_stay(source, tmp_path, convert, name, other):
    (tmp_path / other).write_text('graph')
    (tmp_path / 'm.bin').write_text('weights')
    said = refusal(convert, source(), tmp_path / name, FileExistsError)
    assert 'm.bin, would replace those of' in said and said.endswith(f'{other}; choose another name')
    assert (tmp_path / 'm.bin').read_text() == 'weights'


@pytest.mark.parametrize(
    ('convert', 'module', 'name'), [(to_openvino, 'openvino', 'm.xml'), (to_ncnn, 'pnnx', 'm.param')]
)
def test_a_missing_backend(source, tmp_path, monkeypatch, convert, module, name):
    real = builtins.__import__

    def without(wanted, *args, **kwargs):
        if wanted == module:
            raise ModuleNotFoundError(name=module)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    said = refusal(convert, source(), tmp_path / name, ImportError)
    assert f'needs {module}, which is not installed: pip install ".[backends]" in a checkout' in said


def test_a_converter_that_fails(source, tmp_path, monkeypatch):
    pnnx = pytest.importorskip('pnnx')
    monkeypatch.setattr(pnnx, 'EXEC_PATH', 'false')
    assert 'pnnx can not convert' in refusal(to_ncnn, source(), tmp_path / 'm.param', RuntimeError)


@pytest.mark.parametrize('error', [RuntimeError('iostream error'), OSError(28, 'No space left on device')])
def test_a_full_disk_names_the_file(source, tmp_path, monkeypatch, error):
    ov = pytest.importorskip('openvino')

    def full_disk(model, path, **settings):
        path.write_text('half')
        raise error

    monkeypatch.setattr(ov, 'save_model', full_disk)
    said = refusal(to_openvino, source(), tmp_path / 'm.xml', OSError)
    assert 'm.xml can not be written: ' in said and error.args[-1] in said
