"""TensorRT, float32."""

_base_ = '_base_/tensorrt_static.py'
