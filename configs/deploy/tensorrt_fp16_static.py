"""TensorRT; float16 for layers that are faster in it."""

_base_ = '_base_/tensorrt_static.py'

backend_config = dict(common_config=dict(fp16_mode=True))
