"""Replace mmcv's compiled module `mmcv._ext` on mmcv-lite.

`mmcv.ops` imports `mmcv._ext` by name and asserts that it has certain ops. If no compiled module is found, the import
hook of `rtmdet_plugin_startup` creates one with `fill`. RTMDet needs one op, NMS. Every other op exists by name, and
calling it raises an error that says what to install.
"""

from types import ModuleType

from . import nms as _nms

STAND_INS = {
    'nms': _nms.nms,
    # For the environment report that mmengine and mmdet print.
    'get_compiler_version': lambda: 'n/a (no compiled mmcv)',
    'get_compiling_cuda_version': lambda: 'n/a (no compiled mmcv)',
}


class MissingOpError(NotImplementedError):
    """Raised if an op of compiled mmcv is called and only mmcv-lite is installed."""


def missing_op(name: str):
    """Return a function that raises `MissingOpError` for any arguments."""

    def op(*args, **kwargs):
        raise MissingOpError(
            f"mmcv op '{name}' needs compiled mmcv, but mmcv-lite is installed, which has nms only. "
            'Run `pip uninstall mmcv-lite`, then `pip install mmcv==2.1.0`'
        )

    op.__name__ = op.__qualname__ = name
    return op


def fill(module: ModuleType) -> None:
    """Give the new module `mmcv._ext` an attribute for every op."""

    def __getattr__(name):
        if name.startswith('__'):  # special attributes, which inspect and copy look up, must stay absent
            raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
        return missing_op(name)

    vars(module).update(STAND_INS, __getattr__=__getattr__, __doc__=__doc__)
