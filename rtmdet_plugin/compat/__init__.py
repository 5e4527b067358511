"""Gaps between OpenMMLab's last releases and today's stack: one file for each, nothing where the gap isn't there.

`import rtmdet_plugin` closes those that concern everybody. The others are scoped to the call that needs
them: `onnx_export.legacy_onnx_export()` and `mmyolo.import_mmyolo()`.
"""

from .config_dump import keep_replaced_config
from .cpu_launcher import allow_cpu_launcher
from .torch_load import load_checkpoints_safely


def apply_compat() -> None:
    """Close the gaps that concern everybody who imports `rtmdet_plugin`; calling it again changes nothing."""
    import rtmdet_plugin_startup

    rtmdet_plugin_startup.install()
    load_checkpoints_safely()
    allow_cpu_launcher()
    keep_replaced_config()


__all__ = ['apply_compat']
