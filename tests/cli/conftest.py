"""A small exported model without PyTorch: constants instead of a network."""

import pytest

pytest.importorskip('onnx', reason='onnx is not installed')

from constant_model import write_constant_model  # noqa: E402


@pytest.fixture
def constant_model(tmp_path):
    """A function that writes `model.onnx`, whose boxes and scores are always the same; see `write_constant_model`."""

    def write(boxes, scores, **settings):
        return write_constant_model(tmp_path / 'model.onnx', boxes, scores, **settings)

    return write
