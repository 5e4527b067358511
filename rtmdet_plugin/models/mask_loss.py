"""The mask loss of RTMDet-Ins in chunks of positives: the memory doesn't depend on the number of positives.

The loss is a sum over the positives, and its gradients are small: kernels of 169 numbers per positive, and a few
prototypes per image. So each chunk's gradients are computed together with its loss, and its maps are freed at once.
mmdet keeps the maps of all positives for the backward pass, and reads masks of the full resolution.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..stride_masks import STRIDE, StrideMasks
from .dynamic_conv import mask_logits
from .interpolation import interpolate, interpolation_matrix

MAX_PIXELS = 2**19
"""Mask pixels of the positives that are in memory at a time: 20 positives at 640 px, which take about 30 MB."""


def mask_loss(
    prototypes: Tensor,
    kernel_preds: Sequence[Tensor],
    priors: Tensor,
    gt_index: Tensor,
    batch_masks: Sequence[StrideMasks],
    stride: int,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    max_pixels: int = MAX_PIXELS,
) -> tuple[Tensor, int]:
    """Compute the sum of the losses of all positives, and their number.

    Args:
        prototypes: mask prototypes. (B, NUM_PROTOTYPES, H, W)
        kernel_preds: kernels of the priors of each level, finest first. (B, 169, H_i, W_i) each
        priors: x, y, stride, stride in pixels. (N, 4)
        gt_index: the object of each prior, -1 for background. (B, N)
        batch_masks: masks of each image's objects; smaller ones are padded on the right and below.
        stride: stride of the prototypes in pixels; a multiple of `STRIDE`.
        loss_fn: computes the sum of the losses of (logits, masks), (n, h, w) each.
        max_pixels: mask pixels in memory at a time; at least one positive is processed at a time.

    Returns:
        The sum, a scalar, and the number of positives.
    """
    image, prior = (gt_index >= 0).nonzero(as_tuple=True)  # (P,); waits for the device: chunks need their number
    objects, points = gt_index[image, prior], priors[prior]
    scale = stride // STRIDE
    sizes = prototypes.shape[-2:]
    height, width = (scale * size for size in sizes)
    enlarge = [interpolation_matrix(scale * size, size, 1 / scale, prototypes.device) for size in sizes]

    def loss_of(prototypes: Tensor, kernels: Tensor, i: int, positives: slice) -> Tensor:
        logits = mask_logits(prototypes, kernels, points[positives], stride)
        logits = interpolate(logits, *enlarge)
        masks = batch_masks[i].pixels[objects[positives]].to(logits)
        return loss_fn(logits, F.pad(masks, (0, width - masks.size(2), 0, height - masks.size(1))))

    counts = image.bincount(minlength=len(prototypes)).tolist()
    chunks = list(_chunks(counts, max(1, max_pixels // (height * width))))
    kernels = kernels_at(kernel_preds, image, prior).float()
    return _SumOfChunks.apply(prototypes.float(), kernels, loss_of, chunks), len(image)


def kernels_at(levels: Sequence[Tensor], image: Tensor, prior: Tensor) -> Tensor:
    """Return the kernels of some priors; to concatenate the levels first would copy those of all priors.

    Args:
        levels: kernels of the priors of each level, finest first. (B, 169, H_i, W_i) each
        image: image of each wanted prior. (P,)
        prior: its index among the priors of all levels, row by row. (P,)

    Returns:
        Kernels in the order of `prior`. (P, 169)
    """
    parts, places, first = [], [], 0
    for level in levels:
        end = first + level.shape[2:].numel()
        here = ((first <= prior) & (prior < end)).nonzero().squeeze(1)
        parts.append(level.flatten(2)[image[here], :, prior[here] - first])
        places.append(here)
        first = end
    return torch.cat(parts)[torch.cat(places).argsort()]


def _chunks(counts: Sequence[int], size: int) -> Iterator[tuple[int, slice]]:
    """Yield the image of each chunk, and which of all images' positives are in it, at most `size`."""
    start = 0
    for i, count in enumerate(counts):
        for first in range(start, start + count, size):
            yield i, slice(first, min(first + size, start + count))
        start += count


class _SumOfChunks(torch.autograd.Function):
    """Sum of a function of an image's prototypes and some positives' kernels, over chunks of positives."""

    @staticmethod
    def forward(
        ctx,
        prototypes: Tensor,  # (B, NUM_PROTOTYPES, H, W)
        kernels: Tensor,  # (P, 169)
        function: Callable[[Tensor, Tensor, int, slice], Tensor],
        chunks: Sequence[tuple[int, slice]],
    ) -> Tensor:
        total = prototypes.new_zeros(())
        of_prototypes, of_kernels = torch.zeros_like(prototypes), torch.zeros_like(kernels)
        wanted = any(ctx.needs_input_grad)
        # Coordinates need more bits than bfloat16 has.
        with torch.autocast(prototypes.device.type, enabled=False), torch.set_grad_enabled(wanted):
            for i, positives in chunks:
                leaves = prototypes[i].detach().requires_grad_(), kernels[positives].detach().requires_grad_()
                value = function(*leaves, i, positives)
                total += value.detach()
                if wanted:
                    gradients = torch.autograd.grad(value, leaves)
                    of_prototypes[i] += gradients[0]
                    of_kernels[positives] = gradients[1]
        ctx.save_for_backward(of_prototypes, of_kernels)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_prototypes, of_kernels = ctx.saved_tensors
        return of_prototypes * grad, of_kernels * grad, None, None
