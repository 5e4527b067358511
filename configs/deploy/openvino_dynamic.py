"""OpenVINO, any batch size and any image size."""

_base_ = '_base_/dynamic.py'

backend_config = dict(type='openvino')
