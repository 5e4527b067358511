"""mmdeploy 1.3.1 on today's stack: function rewriters, backends, and what its tools/deploy.py does.

The only package that may import mmdeploy. Nothing here imports it before it is used: `rtmdet_plugin` works without it.
"""

import sys

if 'mmdeploy' in sys.modules:  # mmdeploy imports this package: `codebase_config.module` of a deploy config
    from . import register  # noqa: F401
