"""What stands in for mmcv's compiled `mmcv._ext` on mmcv-lite.

`mmcv.ops` imports `mmcv._ext` by name and asserts that it has the ops it wants; the import hook of
`rtmdet_plugin_startup` makes that module out of `fill`, only where no compiled one is found. RTMDet needs one op,
NMS. Every other op is there by name and says on use what to install.
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
    """An op of compiled mmcv was called, and only mmcv-lite is installed."""


def missing_op(name: str):
    """A function that raises `MissingOpError` whatever it is called with."""

    def op(*args, **kwargs):
        raise MissingOpError(
            f"mmcv op '{name}' needs compiled mmcv and mmcv-lite is installed: `pip uninstall mmcv-lite`, then "
            '`pip install mmcv==2.1.0` (mmcv-lite with rtmdet_plugin has nms only)'
        )

    op.__name__ = op.__qualname__ = name
    return op


def fill(module: ModuleType) -> None:
    """Make the fresh module `mmcv._ext` answer for every op."""

    def __getattr__(name):
        if name.startswith('__'):  # what inspect and copy ask for must stay absent
            raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
        return missing_op(name)

    vars(module).update(STAND_INS, __getattr__=__getattr__, __doc__=__doc__)
