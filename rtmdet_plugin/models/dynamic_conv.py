"""Mask logits of instances from shared prototypes: three 1x1 convolutions whose weights are predicted per instance.

The input of an instance's first layer is its relative coordinates and the prototypes. mmdet repeats the prototypes for
each instance and runs grouped convolutions. The relative coordinates are linear in the coordinates of the cell and of
the prior, so the first layer is one matrix product of all instances' weights with the prototypes and one grid of
coordinates; the prior's part is in the bias.
"""

import torch
from torch import Tensor

NUM_PROTOTYPES = 8
CHANNELS = 8
KERNEL_PARTS = ((NUM_PROTOTYPES + 2) * CHANNELS, CHANNELS * CHANNELS, CHANNELS, CHANNELS, CHANNELS, 1)
"""Weights of the three layers, then their biases, as mmdet orders them; 169 in all."""
COORDINATE_UNIT = 8
"""Relative coordinates are in units of so many strides of the prior."""


def mask_logits(prototypes: Tensor, kernels: Tensor, priors: Tensor, stride: int) -> Tensor:
    """Compute the mask logits of an image's instances in float32; call it without autocast.

    Args:
        prototypes: the image's prototypes. (NUM_PROTOTYPES, H, W)
        kernels: weights and biases of each instance, see `KERNEL_PARTS`. (n, 169)
        priors: x, y and stride of each instance's prior in pixels; further columns are ignored. (n, 3 or more)
        stride: stride of the prototypes in pixels.

    Returns:
        Logits at the upper left corners of the prototypes' cells. (n, H, W)

    Source: RTMDet, arXiv 2212.07784, section 3.4; CondInst, arXiv 2003.05664.
    """
    n, (height, width) = len(kernels), prototypes.shape[1:]
    kernels = placed_kernels(kernels.float(), priors.float())
    first, second, third, first_bias, second_bias, third_bias = kernels.split(KERNEL_PARTS, dim=1)
    inputs = with_coordinates(prototypes.float(), stride).flatten(1)  # (2 + NUM_PROTOTYPES, H * W)
    first = first.reshape(n, CHANNELS, 2 + NUM_PROTOTYPES)
    hidden = torch.addmm(first_bias.reshape(-1, 1), first.flatten(0, 1), inputs).relu_()
    hidden = hidden.view(n, CHANNELS, height * width)
    hidden = torch.baddbmm(second_bias[..., None], second.reshape(n, CHANNELS, CHANNELS), hidden).relu_()
    return torch.baddbmm(third_bias[..., None], third[:, None], hidden).view(n, height, width)


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
