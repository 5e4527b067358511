"""mmdeploy 1.3.1 on today's stack: function rewriters, backends, and the steps of its tools/deploy.py.

The only package that may import mmdeploy. It imports mmdeploy only on use: `rtmdet_plugin` works without it.
"""

import sys

if 'mmdeploy' in sys.modules:  # mmdeploy imports this package: `codebase_config.module` of a deploy config
    from . import register  # noqa: F401
