"""Model wrapper for several processes (`--launcher`): SyncBN on GPUs, plain BN on CPUs.

mmdet's RTMDet converts to SyncBN whenever there are several processes, and mmengine passes DDP a GPU's index; on CPUs
(gloo) both fail. The choice is made here, at run time, so that a dumped config is the same on both kinds of machine.
"""

from typing import Any

from mmengine.dist import all_reduce_params
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm

# Looked up with `MODEL_WRAPPERS.get(...)` of mmengine's own registry, which doesn't search mmdet's.
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn


@MODEL_WRAPPERS.register_module()
class RTMDistributedDataParallel(MMDistributedDataParallel):
    """DistributedDataParallel with SyncBN if the device supports it.

    On CPUs each process normalises its own batch, and the running statistics are averaged over the processes
    after every step, so that all processes hold the same model.

    Args:
        module: the model, on its device. Its BN layers are replaced in place on a GPU.
        device_ids: this process's GPU; ignored on CPUs.
        kwargs: arguments of MMDistributedDataParallel. `broadcast_buffers` defaults to False, as in mmengine.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault('broadcast_buffers', False)
        on_gpu = next(module.parameters()).is_cuda
        if on_gpu:
            module = convert_sync_batchnorm(module)
        else:
            print_log('Several processes on CPUs: BatchNorm is not synchronised.', logger='current')
        super().__init__(module, device_ids=device_ids if on_gpu else None, **kwargs)
        self._average_buffers = not on_gpu

    def train_step(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Make one training step.

        Args:
            args: arguments of mmengine's method.
            kwargs: arguments of mmengine's method.

        Returns:
            The losses to log.
        """
        losses = super().train_step(*args, **kwargs)
        if self._average_buffers:
            buffers = [buffer for buffer in self.module.buffers() if buffer.dtype.is_floating_point]
            all_reduce_params(buffers, op='mean')
        return losses
