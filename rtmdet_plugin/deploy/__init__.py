"""From a checkpoint to what runs elsewhere. The only folder that may import mmdeploy."""

import sys

if 'mmdeploy' in sys.modules:  # mmdeploy imports this package: `codebase_config.module` of a deploy config
    from .mmdeploy import register  # noqa: F401
