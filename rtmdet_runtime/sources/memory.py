"""Images in memory: arrays, PIL images and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..image import Image, read_image


def is_in_memory(source: object) -> bool:
    """Return whether a source is an array, a PIL image or a tensor."""
    return isinstance(source, np.ndarray) or is_pil(source) or is_tensor(source)


def is_pil(source: object) -> bool:
    """Return whether an object is an image of PIL, which isn't imported."""
    return any(kind.__module__ == 'PIL.Image' and kind.__name__ == 'Image' for kind in type(source).__mro__)


def is_tensor(source: object) -> bool:
    """Return whether an object is a tensor of PyTorch, which isn't imported."""
    return any(kind.__module__ in ('torch', 'torch._tensor') for kind in type(source).__mro__)


def holds_one(source: Any) -> bool:
    """Return whether a source in memory is a single image rather than a batch."""
    return is_pil(source) or source.ndim != 4


def images_in_memory(source: Any) -> list[Image]:
    """Return the images, BGR, uint8, (H, W, 3).

    Args:
        source: an array, BGR, uint8, (H, W, 3) or (B, H, W, 3); a PIL image of any mode, rotated by its EXIF data; or
            a tensor, RGB, (3, H, W) or (B, 3, H, W), uint8 or float from 0 to 1.

    Raises:
        ValueError: if it has another shape, type or range.
    """
    if is_pil(source):
        from PIL import ImageOps

        return [np.asarray(ImageOps.exif_transpose(source).convert('RGB'))[:, :, ::-1].copy()]
    if is_tensor(source):
        return from_tensor(source)
    return [read_image(image) for image in (source if source.ndim == 4 else source[None])]


def from_tensor(tensor: Any) -> list[Image]:
    """Return the images in a tensor; see `images_in_memory`."""
    values = (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()
    batch = values if values.ndim == 4 else values[None]
    if batch.ndim != 4 or batch.shape[1] != 3 or 0 in batch.shape[2:]:
        raise ValueError(f'tensor must be RGB, (3, H, W) or (B, 3, H, W), got shape {tuple(tensor.shape)}')
    if batch.dtype == np.float32:
        if batch.size and not (batch.min() >= 0 and batch.max() <= 1):  # also if there is NaN
            raise ValueError(f'values of a float tensor must be from 0 to 1, got {batch.min():g} to {batch.max():g}')
        batch = (batch * 255).round().astype(np.uint8)
    elif batch.dtype != np.uint8:
        raise ValueError(f'type of a tensor with an image must be uint8 or float, got {tensor.dtype}')
    return list(np.ascontiguousarray(batch[:, ::-1].transpose(0, 2, 3, 1)))
