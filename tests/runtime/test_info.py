"""The metadata of a model, written and read."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rtmdet_runtime import ModelInfo


def test_there_and_back(info):
    properties = info.to_properties()
    assert all(isinstance(value, str) for value in properties.values())
    assert ModelInfo.from_properties({'others': 'left alone', **properties}, 'm') == info


def test_a_file_from_before_there_were_masks(info):
    properties = info.to_properties()
    del properties['rtmdet.mask_stride'], properties['rtmdet.mask_thr']
    assert ModelInfo.from_properties(properties, 'm') == info


def test_outputs_and_their_shapes(info):
    shapes = replace(info, form='raw', mask_stride=8).output_shapes
    assert list(shapes.items())[::3] == [
        ('cls_8', (2, 8, 12)), ('reg_8', (4, 8, 12)), ('kernel_8', (169, 8, 12)), ('prototypes', (8, 8, 12))
    ]  # fmt: skip
    assert replace(info, form='raw').outputs == ('cls_8', 'cls_16', 'cls_32', 'reg_8', 'reg_16', 'reg_32')
    assert replace(info, mask_stride=8).output_shapes == dict(
        boxes=(126, 4), scores=(126, 2), kernels=(126, 169), prototypes=(8, 8, 12)
    )
    nms = replace(info, form='nms', mask_stride=8).output_shapes
    assert nms == dict(dets=(None, 5), labels=(None,), mask_logits=(None, 8, 12))


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (
            {'rtmdet.classes': None},
            "m.onnx must be a model that `rtmdet export` wrote, got metadata without 'rtmdet.classes'",
        ),
        ({'rtmdet.score_thr': '0,1'}, "metadata rtmdet.score_thr must be a string with JSON, got '0,1'"),
        ({'rtmdet.score_thr': 0.3}, 'metadata rtmdet.score_thr must be a string with JSON, got 0.3'),
        ({'rtmdet.score_thr': '"0.3"'}, "metadata rtmdet.score_thr must be float, got '0.3'"),
        ({'rtmdet.score_thr': 'true'}, 'metadata rtmdet.score_thr must be float, got True'),
        ({'rtmdet.to_rgb': '1'}, 'metadata rtmdet.to_rgb must be bool, got 1'),
        ({'rtmdet.nms_pre': '1000.5'}, 'metadata rtmdet.nms_pre must be int, got 1000.5'),
        (
            {'rtmdet.strides': '["8", "16", "32"]'},
            "metadata rtmdet.strides must be tuple[int, ...], got ('8', '16', '32')",
        ),
        ({'rtmdet.strides': '[]'}, 'metadata rtmdet.strides must be tuple[int, ...], got ()'),
        ({'rtmdet.classes': '"cat"'}, "metadata rtmdet.classes must be tuple[str, ...], got 'cat'"),
        ({'rtmdet.mean': '[1, 2]'}, 'metadata rtmdet.mean must be tuple[float, float, float], got (1, 2)'),
        ({'rtmdet.form': '"boxes"'}, "rtmdet.form must be one of raw, decoded, nms, trt, got 'boxes'"),
        ({'rtmdet.form': '[]'}, 'rtmdet.form must be str, got ()'),
        ({'rtmdet.version': '[' * 10**5}, 'rtmdet.version must be a string with JSON'),
        ({'rtmdet.std': '[1, 0, 1]'}, 'rtmdet.std must be above 0, up to 1000000, got (1, 0, 1)'),
        ({'rtmdet.std': '[1, 1, -1]'}, 'rtmdet.std must be above 0, up to 1000000, got (1, 1, -1)'),
        ({'rtmdet.std': '[1, 1, NaN]'}, 'rtmdet.std must be above 0, up to 1000000, got (1, 1, nan)'),
        ({'rtmdet.mean': '[NaN, 1, 1]'}, 'rtmdet.mean must be from -1000000 to 1000000, got (nan, 1, 1)'),
        ({'rtmdet.mean': f'[1{"0" * 400}, 1, 1]'}, 'rtmdet.mean must be from -1000000 to 1000000, got (10000'),
        ({'rtmdet.pad_value': '[0, 0, Infinity]'}, 'rtmdet.pad_value must be from 0 to 255, got (0, 0, inf)'),
        ({'rtmdet.strides': '[0, 16, 32]'}, 'rtmdet.strides must be increasing and at least 1, got (0, 16, 32)'),
        ({'rtmdet.strides': '[0]'}, 'rtmdet.strides must be increasing and at least 1, got (0,)'),
        ({'rtmdet.strides': '[8, 8, 32]'}, 'rtmdet.strides must be increasing and at least 1, got (8, 8, 32)'),
        ({'rtmdet.input_size': '[0, 0]'}, 'rtmdet.input_size must be (height, width), multiples of 32 up to'),
        ({'rtmdet.input_size': '[64, 96, 32]'}, 'multiples of 32 up to 16384, got (64, 96, 32)'),
        ({'rtmdet.iou_thr': 'NaN'}, 'rtmdet.iou_thr must be from 0 to 1, got nan'),
        ({'rtmdet.mask_stride': '16'}, 'rtmdet.mask_stride must be 0 (no masks) or 8, got 16'),
        ({'rtmdet.mask_thr': '1.0'}, 'rtmdet.mask_thr must be above 0 and below 1, got 1.0'),
        (
            {'rtmdet.mask_stride': '8', 'rtmdet.form': '"trt"'},
            "rtmdet.form must be one of raw, decoded, nms with masks, got 'trt'",
        ),
    ],
)
def test_refusals(info, change, said):
    properties = {**info.to_properties(), **change}
    properties = {name: value for name, value in properties.items() if value is not None}
    with pytest.raises(ValueError) as caught:
        ModelInfo.from_properties(properties, 'm.onnx')
    assert str(caught.value).startswith(('m.onnx: ', 'm.onnx must')) and said in str(caught.value)


@pytest.mark.parametrize(
    ('content', 'said'),
    [('5', 'a JSON object .* got int'), ('{', 'JSON .* got no JSON'), ('[]', 'a JSON object .* got list')],
)
def test_file_without_metadata(tmp_path, content, said):
    (tmp_path / 'm.json').write_text(content)
    with pytest.raises(ValueError, match=f'm.json must be {said}'):
        ModelInfo.from_file(tmp_path / 'm.json', tmp_path / 'm.param')


def test_a_file(info, tmp_path):
    (tmp_path / 'm.json').write_text(json.dumps(info.to_properties()))
    assert ModelInfo.from_file(tmp_path / 'm.json', tmp_path / 'm.param') == info


def test_invalid_values(info):
    replace(info, score_thr=np.float32(0.5), input_size=tuple(np.array([64, 96]))).check()
    for change in (dict(nms_pre=0), dict(nms_pre=-1), dict(max_per_img=0)):
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f'{name} must be at least 1, got {value}'):
            replace(info, **change).check()
    with pytest.raises(ValueError, match="score_thr must be float, got 'abc'"):
        replace(info, score_thr='abc').check()
