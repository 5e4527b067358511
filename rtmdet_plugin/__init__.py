"""RTMDet for OpenMMLab, on today's stack.

Importing this package checks the versions of the stack, closes the gaps listed in `rtmdet_plugin.compat`, and makes its
modules known to mmdet's registries. It imports none of them: a package is imported when a registry first looks up a
name, and the names below when they are first used.
"""

import importlib

from .version import __version__, check_stack

check_stack()

# After the check, whose error is clearer than a failed import.
from .checkpoints.fit_to_model import fit_all_checkpoints  # noqa: E402
from .compat import apply_compat  # noqa: E402
from .errors import report_refusals  # noqa: E402
from .registration import register_packages  # noqa: E402

apply_compat()
fit_all_checkpoints()
register_packages()
report_refusals()

_EXPORTED = {
    'RTMDetPredictor': 'inference.predictor',
    'composable': 'transforms.composable',
    'convert_checkpoint': 'checkpoints.publish',
    'drop_in': 'config.drop_in',
    'find_step': 'config.pipelines',
    'load_model': 'checkpoints.load_model',
    'publish': 'checkpoints.publish',
    'set_input_size': 'config.input_size',
    'train': 'training.train',
}
"""Public name: module that defines it."""

__all__ = ['__version__', *_EXPORTED]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _EXPORTED:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_EXPORTED[name]}'), name)
