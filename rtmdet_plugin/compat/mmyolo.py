"""Import mmyolo 0.6.0, which asserts mmcv < 2.1.0 in its `__init__`, with mmcv 2.1.0.

Once this check passes, mmyolo imports and works on this stack. It is a second reference in tests and benchmarks; the
package itself doesn't need it.
"""

import importlib
from types import ModuleType

import mmcv

from ..version import release

FIRST_REFUSED_MMCV = (2, 1, 0)
ACCEPTED_MMCV = '2.0.1'


def import_mmyolo() -> ModuleType:
    """Return the module `mmyolo`; mmcv reports an older version only while mmyolo is first imported.

    Raises:
        ModuleNotFoundError: if mmyolo isn't installed.
    """
    version = mmcv.__version__
    if release(version) >= FIRST_REFUSED_MMCV:
        mmcv.__version__ = ACCEPTED_MMCV
    try:
        return importlib.import_module('mmyolo')
    finally:
        mmcv.__version__ = version
