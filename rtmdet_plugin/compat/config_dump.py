"""Keep the config of an earlier run, to restore it if the run that replaced it is refused.

mmengine's Runner writes its config to the work directory when it is built, before any hook can inspect the folder.
"""

import functools
from pathlib import Path

from mmengine.runner import Runner


def keep_replaced_config() -> None:
    """Make `Runner.dump_config` keep the files that it replaces, in `Runner.replaced_configs`. Idempotent."""
    original = Runner.dump_config
    if getattr(original, 'keeps_replaced', False):
        return

    @functools.wraps(original)
    def dump_config(self: Runner) -> None:
        before = {path: path.read_bytes() for path in Path(self.work_dir).glob('*.py')}
        original(self)
        self.replaced_configs = {path: content for path, content in before.items() if path.read_bytes() != content}

    # The stub of `wraps` hides that this is a function.
    dump_config.keeps_replaced = True  # pyright: ignore[reportAttributeAccessIssue]
    Runner.dump_config = dump_config
