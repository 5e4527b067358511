"""Keep the memory of a training step on a CPU for the next step, instead of returning it to the system."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...kept_memory import keep_all_freed_memory
from .cpu_threads import on_cpu


@HOOKS.register_module()
class RTMKeptMemoryHook(Hook):
    """Let the process of a run on the CPU keep freed memory; see `rtmdet_plugin.kept_memory`.

    MALLOC_TRIM_THRESHOLD_ and the other variables of glibc's allocator take precedence.
    """

    def before_run(self, runner: Runner) -> None:
        """Set up the allocator of this process; processes that load images return memory as before."""
        if on_cpu(runner):
            keep_all_freed_memory()
