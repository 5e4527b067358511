"""Register everything here with mmdeploy, on import."""

from . import local_names, ncnn_backend, openvino_backend, rewriters  # noqa: F401
