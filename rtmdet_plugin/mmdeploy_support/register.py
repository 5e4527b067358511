"""Register everything here with mmdeploy, on import."""

from . import ncnn_backend, openvino_backend, rewriters  # noqa: F401
