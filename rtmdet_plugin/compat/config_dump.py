"""Keep the config of an earlier run if the run that replaced it is refused.

mmengine's Runner writes its config to the work directory when it is built, before any hook can look at the folder.
"""

import functools
from pathlib import Path

from mmengine.runner import Runner

from ..checkpoints.atomic_file import write_atomically


def keep_replaced_config() -> None:
    """Let `Runner.dump_config` remember what it replaces; calling it again changes nothing."""
    original = Runner.dump_config
    if getattr(original, 'keeps_replaced', False):
        return

    @functools.wraps(original)
    def dump_config(self: Runner) -> None:
        before = {path: path.read_bytes() for path in Path(self.work_dir).glob('*.py')}
        original(self)
        self._replaced_configs = {path: content for path, content in before.items() if path.read_bytes() != content}

    dump_config.keeps_replaced = True
    Runner.dump_config = dump_config


def restore_config(runner: Runner) -> None:
    """Write back the config that this run has replaced, if there was one."""
    for path, content in getattr(runner, '_replaced_configs', {}).items():
        write_atomically(path, content)
