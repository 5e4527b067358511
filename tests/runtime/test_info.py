"""What a model says about itself, there and back."""

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
        ({'rtmdet.score_thr': '0,1'}, "metadata rtmdet.score_thr='0,1' is not JSON"),
        ({'rtmdet.form': '"boxes"'}, "rtmdet.form='boxes'; accepted: raw, decoded, nms, trt"),
    ],
)
def test_refusals(info, change, said):
    properties = {**info.to_properties(), **change}
    properties = {name: value for name, value in properties.items() if value is not None}
    with pytest.raises(ValueError) as caught:
        ModelInfo.from_properties(properties, 'm.onnx')
    assert str(caught.value).startswith('m.onnx: ') and said in str(caught.value)
