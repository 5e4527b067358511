"""RTMDet for OpenMMLab, on today's stack.

Importing this package checks the versions around it, closes the gaps of `rtmdet_plugin.compat`, and makes its modules
known to mmdet's registries. It builds nothing: the packages are imported when a registry is first asked for a name, and
the names below when they are first used.
"""

import importlib

from .version import __version__, check_stack

check_stack()

from .compat import apply_compat  # noqa: E402  the check comes first: its message is the one to read
from .errors import report_refusals  # noqa: E402
from .registration import register_packages  # noqa: E402

apply_compat()
register_packages()
report_refusals()

_EXPORTED = {
    'RTMDetPredictor': 'inference.predictor',
    'composable': 'transforms.composable',
    'load_model': 'checkpoints.load_model',
    'publish': 'checkpoints.publish',
}
"""Name for users: module that defines it."""

__all__ = ['__version__', *_EXPORTED]


def __getattr__(name: str) -> object:
    if name not in _EXPORTED:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_EXPORTED[name]}'), name)
