"""ONNX Runtime, any batch and any size."""

_base_ = '_base_/dynamic.py'

backend_config = dict(type='onnxruntime')
