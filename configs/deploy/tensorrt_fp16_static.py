"""TensorRT; layers use float16 if that is faster."""

_base_ = '_base_/tensorrt_static.py'

backend_config = dict(common_config=dict(fp16_mode=True))
