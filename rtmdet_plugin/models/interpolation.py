"""Bilinear interpolation as two matrix products, one for the rows and one for the columns.

This gives exact scales and any part of the result: `F.interpolate` derives the scale from two rounded sizes, and always
computes the entire image. Its backward pass takes three times as long on a CPU.
"""

import torch
from torch import Tensor


def interpolation_matrix(length: int, cells: int, cells_per_pixel: float, device: torch.device) -> Tensor:
    """Return the weights of linear interpolation from cells to pixels, each row of which sums to 1.

    The centre of pixel i lies at (i + 0.5) * cells_per_pixel on an axis on which cell j covers j to j + 1. Beyond the
    centres of the outer cells, values are constant.

    Args:
        length: number of pixels.
        cells: number of cells.
        cells_per_pixel: size of a pixel in cells.
        device: device of the result.

    Returns:
        float32 matrix. (length, cells)
    """
    places = (torch.arange(length, device=device, dtype=torch.float64) + 0.5) * cells_per_pixel - 0.5
    places = places.clamp_(0, cells - 1)[:, None]
    return (1 - (places - torch.arange(cells, device=device)).abs()).clamp_(min=0).float()


def interpolate(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate maps (n, h, w) with matrices (H, h) and (W, w) to (n, H, W)."""
    n, height, width = maps.shape
    wide = (maps.reshape(-1, width) @ columns.T).view(n, height, -1)
    return torch.bmm(rows.expand(n, -1, -1), wide)
