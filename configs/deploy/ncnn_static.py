"""ncnn, one image of a fixed size. The network ends with boxes and scores: NMS is the caller's."""

_base_ = '_base_/rtmdet.py'

onnx_config = dict(output_names=['boxes', 'scores'])
backend_config = dict(type='ncnn')
