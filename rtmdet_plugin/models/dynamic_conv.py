"""Mask logits of instances from shared prototypes: three 1x1 convolutions whose weights are predicted per instance.

The input of an instance's first layer is its relative coordinates and the prototypes. mmdet repeats the prototypes for
each instance and runs grouped convolutions. The relative coordinates are linear in the coordinates of the cell and of
the prior, so the first layer is one matrix product of all instances' weights with the prototypes and one grid of
coordinates; the prior's part is in the bias.
"""

import torch
from torch import Tensor

from rtmdet_runtime.mask_kernel import CHANNELS, COORDINATE_UNIT, KERNEL_PARTS, NUM_PROTOTYPES


def mask_logits(prototypes: Tensor, kernels: Tensor, priors: Tensor, stride: int) -> Tensor:
    """Compute the mask logits of an image's instances in float32; call it without autocast.

    `mask_logits` of `rtmdet_runtime.mask_decoding` does the same in NumPy; a test compares them.

    Args:
        prototypes: the image's prototypes. (NUM_PROTOTYPES, H, W)
        kernels: weights and biases of each instance, see `KERNEL_PARTS`. (n, 169)
        priors: x, y and stride of each instance's prior in pixels; further columns are ignored. (n, 3 or more)
        stride: stride of the prototypes in pixels.

    Returns:
        Logits at the upper left corners of the prototypes' cells. (n, H, W)

    Source: RTMDet, arXiv 2212.07784, section 3.4; CondInst, arXiv 2003.05664.
    """
    kernels = placed_kernels(kernels.float(), priors.float())
    return apply_kernels(with_coordinates(prototypes.float(), stride)[None], kernels[None])[0]


def apply_kernels(inputs: Tensor, kernels: Tensor) -> Tensor:
    """Compute the three layers of the instances of some images.

    Args:
        inputs: see `with_coordinates`. (B, 2 + NUM_PROTOTYPES, H, W)
        kernels: see `placed_kernels`. (B, n, 169)

    Returns:
        Logits. (B, n, H, W)
    """
    batch, n, (height, width) = *kernels.shape[:2], inputs.shape[2:]
    first, second, third, first_bias, second_bias, third_bias = kernels.split(KERNEL_PARTS, dim=2)
    # All instances of an image share the inputs of the first layer, which is one matrix product.
    first = first.reshape(batch, -1, 2 + NUM_PROTOTYPES)
    hidden = torch.baddbmm(first_bias.reshape(batch, -1, 1), first, inputs.flatten(2)).relu_()
    hidden = hidden.reshape(-1, CHANNELS, height * width)
    second, second_bias = second.reshape(-1, CHANNELS, CHANNELS), second_bias.reshape(-1, CHANNELS, 1)
    hidden = torch.baddbmm(second_bias, second, hidden).relu_()
    third, third_bias = third.reshape(-1, 1, CHANNELS), third_bias.reshape(-1, 1, 1)
    return torch.baddbmm(third_bias, third, hidden).reshape(batch, n, height, width)


def placed_kernels(kernels: Tensor, priors: Tensor) -> Tensor:
    """Return kernels whose first layer takes coordinates in pixels instead of those relative to the prior.

    Args:
        kernels: see `KERNEL_PARTS`. (..., 169)
        priors: x, y and stride of each kernel's prior in pixels; further columns are ignored. (..., 3 or more)
    """
    first, second, third, first_bias, *biases = kernels.split(KERNEL_PARTS, dim=-1)
    first = first.reshape(*first.shape[:-1], CHANNELS, 2 + NUM_PROTOTYPES)  # opset 11 has no unflatten
    to_point = first[..., :2] / (COORDINATE_UNIT * priors[..., None, 2:3])  # (..., CHANNELS, 2)
    first_bias = first_bias + (to_point * priors[..., None, :2]).sum(dim=-1)
    first = torch.cat([-to_point, first[..., 2:]], dim=-1).flatten(-2)
    return torch.cat([first, second, third, first_bias, *biases], dim=-1)


def with_coordinates(prototypes: Tensor, stride: int) -> Tensor:
    """Put x and y of the cells' upper left corners in pixels before the prototypes.

    Args:
        prototypes: (..., NUM_PROTOTYPES, H, W)
        stride: stride of the prototypes in pixels.

    Returns:
        Inputs of the first layer of `placed_kernels`. (..., 2 + NUM_PROTOTYPES, H, W)
    """
    height, width = prototypes.shape[-2:]
    y, x = (torch.arange(n, dtype=prototypes.dtype, device=prototypes.device) * stride for n in (height, width))
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    return torch.cat([grid.expand(*prototypes.shape[:-3], 2, height, width), prototypes], dim=-3)
