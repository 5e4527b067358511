"""RTMDet for OpenMMLab, on today's stack.

Importing this package checks the versions around it, closes the gaps of `rtmdet_plugin.compat`, and makes its
modules known to mmdet's registries. It registers and doesn't build: the folders below are imported when a
registry is first asked for something, not before.
"""

from .version import __version__, check_stack

check_stack()

from .compat import apply_compat  # noqa: E402  the check comes first: its message is the one to read
from .errors import report_refusals  # noqa: E402
from .registration import register_packages  # noqa: E402

apply_compat()
register_packages()
report_refusals()

__all__ = ['__version__']
