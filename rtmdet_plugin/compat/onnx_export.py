"""torch >= 2.9 exports to ONNX through dynamo by default, and mmdeploy 1.3.1 fails in it.

mmdeploy rewrites functions while `torch.jit.trace` runs through the model; dynamo never gets there.
"""

import contextlib
import functools
import inspect

import torch


@contextlib.contextmanager
def legacy_onnx_export():
    """Within it, `torch.onnx.export` uses TorchScript unless the call says `dynamo=...` itself.

    For the export call only: the function is put back afterwards, also after an error. Where this torch has no
    `dynamo` argument (before 2.5), or its default is False already, nothing changes.
    """
    original = torch.onnx.export
    parameter = inspect.signature(original).parameters.get('dynamo')
    if parameter is None or not parameter.default:
        yield
        return

    @functools.wraps(original)
    def export(*args, **kwargs):
        kwargs.setdefault('dynamo', False)
        return original(*args, **kwargs)

    torch.onnx.export = export
    try:
        yield
    finally:
        torch.onnx.export = original
