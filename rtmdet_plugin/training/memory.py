"""Measure the memory of a training step, to choose a batch size that fits.

On a CPU nothing is run: the network is traced on PyTorch's meta device, where tensors have a size but no memory, and
the tensors that the backward pass needs are summed. For tiny, batch 4 at 640 px, this gives 1.39 GB in float32; 1.30 GB
were measured (benchmarks/train_step.py). On a GPU, two steps are run and the line through their peaks is taken,
because the memory also depends on the kernels that cuDNN chooses.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from mmdet.models import SingleStageDetector
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor

from ..engine.hooks.before_run.free_memory import free_memory
from ..errors import RefusedError

COPIES = 5
"""Parameters, gradients, AdamW's two averages, and the averaged weights."""
AMP_SHARE = 0.6
"""Memory of activations with bfloat16 relative to float32; 0.55 was measured for tiny."""
PROBED = 2, 4
"""Batch sizes of the steps on a GPU."""


class Memory(NamedTuple):
    """Memory of a training step, in bytes."""

    fixed: float
    """Memory that doesn't depend on the batch."""
    per_image: float
    free: float
    """Memory that the process may still allocate."""


def step_memory(model: dict[str, Any], size: int, device: str, amp: bool) -> Memory | None:
    """Measure the memory of a training step.

    Args:
        model: config of the detector.
        size: side of the square input in pixels.
        device: 'cuda' or 'cpu'.
        amp: whether the step is computed in bfloat16.

    Returns:
        The memory; None if it isn't known, for example because the system doesn't report how much is free.

    Raises:
        RefusedError: if a step with few images doesn't fit the memory of the GPU.
    """
    if device == 'cuda':
        return _measured(model, size, amp)
    free = free_memory()
    if free is None:
        return None
    parameters, activations = traced(model, size)
    return Memory(COPIES * parameters, activations * (AMP_SHARE if amp else 1), free)


def traced(model: dict[str, Any], size: int) -> tuple[int, float]:
    """Return the bytes of the parameters and, per image, of the tensors that the backward pass needs, in float32."""
    network = _build(model, 'meta')
    parameters = {parameter.untyped_storage() for parameter in network.parameters()}
    kept = set()

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _forward(network, torch.empty(PROBED[0], 3, size, size, device='meta'))
    activations = sum(storage.nbytes() for storage in kept - parameters)
    return sum(storage.nbytes() for storage in parameters), activations / PROBED[0]


def _measured(model: dict[str, Any], size: int, amp: bool) -> Memory | None:
    """Run a forward and a backward pass for each batch size on the GPU."""
    network = _build(model, 'cuda')
    network.to(memory_format=torch.channels_last)
    parameters = sum(p.nbytes for p in network.parameters())
    peaks = []
    for batch in PROBED:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            with torch.autocast('cuda', torch.bfloat16, enabled=amp):
                outputs = _forward(network, torch.zeros(batch, 3, size, size, device='cuda'))
            torch.stack([output.float().sum() for output in outputs]).sum().backward()
        except torch.OutOfMemoryError:
            total = torch.cuda.mem_get_info()[1] / 1e9
            raise RefusedError(
                f'batch must fit the memory of the GPU, {total:.1f} GB; a step with {batch} images of {size} px does '
                'not: choose a smaller --model, --imgsz or --batch, or --amp'
            ) from None
        peaks.append(torch.cuda.max_memory_allocated())
        del outputs
        network.zero_grad()
    del network
    torch.cuda.empty_cache()
    fixed, per_image = line(PROBED, peaks)
    if per_image <= 0:  # the kernels that cuDNN chose for the smaller batch need more
        return None
    # The peaks have the parameters and their gradients; the other copies come with the optimiser's first step.
    return Memory(fixed + (COPIES - 2) * parameters, per_image, torch.cuda.mem_get_info()[0])


def line(batches: tuple[int, int], peaks: list[float]) -> tuple[float, float]:
    """Return the memory at batch 0 and its increase per image, of the line through two measurements."""
    per_image = (peaks[1] - peaks[0]) / (batches[1] - batches[0])
    return max(0.0, peaks[0] - batches[0] * per_image), per_image


def _build(model: dict[str, Any], device: str) -> SingleStageDetector:
    model = copy.deepcopy(model)
    model['backbone']['init_cfg'] = None
    init_default_scope('mmdet')
    with torch.device(device):
        return MODELS.build(model).train()


def _forward(network: SingleStageDetector, images: Tensor) -> list[Tensor]:
    """Return the head's outputs of all levels."""
    outputs = network.bbox_head(network.neck(network.backbone(images)))
    return [level for kind in outputs for level in kind]
