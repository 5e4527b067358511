"""ncnn, one image of a fixed size. The graph returns all boxes and scores; the caller runs NMS."""

_base_ = '_base_/rtmdet.py'

onnx_config = dict(output_names=['boxes', 'scores'])
backend_config = dict(type='ncnn')
