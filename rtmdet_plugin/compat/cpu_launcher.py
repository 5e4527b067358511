"""Make `--launcher pytorch` work on a machine without a GPU.

mmengine's `init_dist` selects a CUDA device for every backend. This raises an AttributeError in PyTorch's CPU builds
and a RuntimeError in the others.
"""

from typing import Any

import torch
import torch.distributed
from mmengine.dist import utils as dist_utils


def allow_cpu_launcher() -> None:
    """Let mmengine start several processes on CPUs; do nothing if there is an accelerator."""
    if not (torch.cuda.is_available() or _other_accelerator()):
        dist_utils._init_dist_pytorch = _init_dist_gloo


def _other_accelerator() -> bool:
    """Return whether mmengine has its own code path for this machine's accelerator."""
    return dist_utils.is_mlu_available() or dist_utils.is_npu_available() or dist_utils.is_musa_available()


def _init_dist_gloo(backend: str, init_backend: str = 'torch', **kwargs: Any) -> None:
    """Join the process group with gloo, because NCCL, which configs name, needs GPUs."""
    torch.distributed.init_process_group(backend='gloo', **kwargs)
