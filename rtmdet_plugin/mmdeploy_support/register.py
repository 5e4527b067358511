"""Importing this makes mmdeploy know everything here."""

from . import ncnn_backend, openvino_backend, rewriters  # noqa: F401
