"""What a model says about itself, there and back."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rtmdet_runtime import ModelInfo


def test_there_and_back(info):
    properties = info.to_properties()
    assert all(isinstance(value, str) for value in properties.values())
    assert ModelInfo.from_properties({'others': 'left alone', **properties}, 'm') == info


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (
            {'rtmdet.classes': None},
            "m.onnx: not a model that `rtmdet export` wrote, its metadata has no 'rtmdet.classes'",
        ),
        ({'rtmdet.score_thr': '0,1'}, "metadata rtmdet.score_thr='0,1' is not JSON in a string"),
        ({'rtmdet.score_thr': 0.3}, 'metadata rtmdet.score_thr=0.3 is not JSON in a string'),
        ({'rtmdet.score_thr': '"0.3"'}, "metadata rtmdet.score_thr='0.3'; accepted: float"),
        ({'rtmdet.score_thr': 'true'}, 'metadata rtmdet.score_thr=True; accepted: float'),
        ({'rtmdet.to_rgb': '1'}, 'metadata rtmdet.to_rgb=1; accepted: bool'),
        ({'rtmdet.nms_pre': '1000.5'}, 'metadata rtmdet.nms_pre=1000.5; accepted: int'),
        ({'rtmdet.strides': '["8", "16", "32"]'}, "strides=('8', '16', '32'); accepted: tuple[int, ...]"),
        ({'rtmdet.strides': '[]'}, 'strides=(); accepted: tuple[int, ...]'),
        ({'rtmdet.classes': '"cat"'}, "classes='cat'; accepted: tuple[str, ...]"),
        ({'rtmdet.mean': '[1, 2]'}, 'mean=(1, 2); accepted: tuple[float, float, float]'),
        ({'rtmdet.form': '"boxes"'}, "rtmdet.form='boxes'; accepted: raw, decoded, nms, trt"),
    ],
)
def test_refusals(info, change, said):
    properties = {**info.to_properties(), **change}
    properties = {name: value for name, value in properties.items() if value is not None}
    with pytest.raises(ValueError) as caught:
        ModelInfo.from_properties(properties, 'm.onnx')
    assert str(caught.value).startswith('m.onnx: ') and said in str(caught.value)


@pytest.mark.parametrize(
    ('content', 'said'), [('5', 'not a JSON object'), ('{', 'not JSON'), ('[]', 'not a JSON object')]
)
def test_a_file_of_something_else(tmp_path, content, said):
    (tmp_path / 'm.json').write_text(content)
    with pytest.raises(ValueError, match=f'm.json: {said}'):
        ModelInfo.from_file(tmp_path / 'm.json', tmp_path / 'm.param')


def test_a_file(info, tmp_path):
    (tmp_path / 'm.json').write_text(json.dumps(info.to_properties()))
    assert ModelInfo.from_file(tmp_path / 'm.json', tmp_path / 'm.param') == info


def test_values_that_can_not_serve(info):
    replace(info, score_thr=np.float32(0.5), input_size=tuple(np.array([64, 96]))).check()
    for change in (dict(nms_pre=0), dict(nms_pre=-1), dict(max_per_img=0)):
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f'{name}={value}; accepted: 1 or more'):
            replace(info, **change).check()
    with pytest.raises(ValueError, match="score_thr='abc'; accepted: float"):
        replace(info, score_thr='abc').check()
