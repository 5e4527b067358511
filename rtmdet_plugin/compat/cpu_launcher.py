"""`--launcher pytorch` on a machine without a GPU.

mmengine's `init_dist` selects a CUDA device whatever the backend, which fails with an AttributeError in
PyTorch's CPU builds and a RuntimeError in the others.
"""

from typing import Any

import torch
import torch.distributed
from mmengine.dist import utils as dist_utils


def allow_cpu_launcher() -> None:
    """Let mmengine start several processes on CPUs; does nothing where there is an accelerator."""
    if not (torch.cuda.is_available() or _other_accelerator()):
        dist_utils._init_dist_pytorch = _init_dist_gloo


def _other_accelerator() -> bool:
    """Whether mmengine has a branch of its own for this machine."""
    return dist_utils.is_mlu_available() or dist_utils.is_npu_available() or dist_utils.is_musa_available()


def _init_dist_gloo(backend: str, init_backend: str = 'torch', **kwargs: Any) -> None:
    """Join the process group with gloo: NCCL, which configs ask for, needs GPUs."""
    torch.distributed.init_process_group(backend='gloo', **kwargs)
