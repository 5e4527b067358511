"""Remember the config of an earlier run, for the case that the run that replaced it is refused.

mmengine's Runner writes its config to the work directory when it is built, before any hook can look at the folder.
"""

import functools
from pathlib import Path

from mmengine.runner import Runner


def keep_replaced_config() -> None:
    """Let `Runner.dump_config` remember what it replaces; calling it again changes nothing."""
    original = Runner.dump_config
    if getattr(original, 'keeps_replaced', False):
        return

    @functools.wraps(original)
    def dump_config(self: Runner) -> None:
        before = {path: path.read_bytes() for path in Path(self.work_dir).glob('*.py')}
        original(self)
        self.replaced_configs = {path: content for path, content in before.items() if path.read_bytes() != content}

    dump_config.keeps_replaced = True
    Runner.dump_config = dump_config
