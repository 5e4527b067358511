"""Make `torch.onnx.export` use TorchScript, as mmdeploy 1.3.1 needs; torch >= 2.9 uses dynamo by default.

mmdeploy rewrites functions while `torch.jit.trace` traces the model, and dynamo doesn't call `torch.jit.trace`.
"""

import contextlib
import functools
import inspect

import torch


@contextlib.contextmanager
def legacy_onnx_export():
    """Make `torch.onnx.export` use TorchScript within this context, unless the call itself sets `dynamo`.

    Wrap only the export call in it. The original function is restored afterwards, also after an error. Does nothing if
    this torch has no `dynamo` argument (before 2.5), or if its default is already False.
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
