"""Close the gaps between OpenMMLab's last releases and today's stack: one file per gap.

Each file does nothing if its gap is absent. `import rtmdet_plugin` closes the gaps that affect every user. One is
closed only around the call that needs it: `onnx_export.legacy_onnx_export()`. `rtmdet_plugin_startup` closes those that
a program meets before it imports `rtmdet_plugin`.
"""

from .config_dump import keep_replaced_config
from .cpu_launcher import allow_cpu_launcher
from .torch_load import load_checkpoints_safely


def apply_compat() -> None:
    """Close the gaps that affect every user of `rtmdet_plugin`. Idempotent."""
    import rtmdet_plugin_startup

    rtmdet_plugin_startup.install()
    load_checkpoints_safely()
    allow_cpu_launcher()
    keep_replaced_config()


__all__ = ['apply_compat']
