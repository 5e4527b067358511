"""mmyolo 0.6.0 asserts mmcv < 2.1.0 in its `__init__`; the stack here is on 2.1.0.

With that one check passed mmyolo imports and works on this stack. It is a second reference in tests and benchmarks;
nothing of the package itself needs it.
"""

import importlib
from types import ModuleType

import mmcv

from ..version import release

TOO_NEW = (2, 1, 0)
ACCEPTED = '2.0.1'


def import_mmyolo() -> ModuleType:
    """The module `mmyolo`; mmcv reports an older version while it is imported for the first time, and only then.

    Raises:
        ModuleNotFoundError: where mmyolo isn't installed.
    """
    version = mmcv.__version__
    if release(version) >= TOO_NEW:
        mmcv.__version__ = ACCEPTED
    try:
        return importlib.import_module('mmyolo')
    finally:
        mmcv.__version__ = version
