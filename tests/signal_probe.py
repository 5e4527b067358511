"""A hook for test_signals.py that waits for the signal at one step, so that it always arrives at this step."""

import os
import time
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook


@HOOKS.register_module()
class SignalProbe(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if os.environ['SIGNAL_PROBE'] == f'{get_rank()}:{runner.iter}':
            ready = Path(runner.work_dir, 'ready')
            ready.with_suffix('.tmp').write_text(str(os.getpid()))
            ready.with_suffix('.tmp').rename(ready)
            hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'RTMGracefulStopHook')
            deadline = time.monotonic() + 60
            while not hook._signal and time.monotonic() < deadline:
                time.sleep(0.05)
