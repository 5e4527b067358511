"""OpenVINO, one image of a fixed size."""

_base_ = '_base_/rtmdet.py'

backend_config = dict(type='openvino')
