"""Modules that PyTorch traces to the exported graph, one for each of the export formats `raw` and `decoded`.

The export formats `nms` and `trt` are `decoded` with NMS nodes, see `nms_nodes.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mmdet.models import BaseDetector


def predict_maps(model: BaseDetector, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of the last convolutions for each level, finest level first.

    Args:
        model: a detector with RTMDet's head, ours or mmdet's.
        images: normalised images. (B, 3, H, W)

    Returns:
        Logits (B, C, H_i, W_i) and distances (B, 4, H_i, W_i) in cells, or their logarithms if `exp_on_reg`.
    """
    head = model.bbox_head
    logits, distances = [], []
    for i, feat in enumerate(model.extract_feat(images)):
        cls_feat = reg_feat = feat
        for layer in head.cls_convs[i]:
            cls_feat = layer(cls_feat)
        for layer in head.reg_convs[i]:
            reg_feat = layer(reg_feat)
        logits.append(head.rtm_cls[i](cls_feat))
        distances.append(head.rtm_reg[i](reg_feat))
    return logits, distances


def grid_points(height: int, width: int, stride: int) -> Tensor:
    """Return the priors of one level: the upper left corners (x, y) of its cells in pixels, row by row.

    Returns:
        Priors. (2, height * width)
    """
    x = torch.arange(width, dtype=torch.float32) * stride
    y = torch.arange(height, dtype=torch.float32) * stride
    # Sums instead of `expand`, which becomes an INT64 `ConstantOfShape`, which TensorRT's support list doesn't have.
    return torch.stack([x[None] + 0 * y[:, None], 0 * x[None] + y[:, None]]).flatten(1)


def decode(
    logits: list[Tensor], sides: list[Tensor], points: Tensor, limits: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute boxes and scores of all priors, with operations that every backend has.

    The head decodes with mmdet's `DistancePointBBoxCoder`, and the runtime decodes the maps of `raw` with `decode_maps`
    of `rtmdet_runtime.postprocess`. A test compares the three.

    Args:
        logits: class logits of each level. (B, C, H_i, W_i)
        sides: distances from the prior to the left, top, right and bottom side in pixels, for each level.
            (B, 4, H_i, W_i)
        points: the priors, see `grid_points`. (2, N)
        limits: width and height that boxes are clipped to; None doesn't clip them. (2, 1)

    Returns:
        Boxes (B, N, 4), xyxy in pixels of the input, and scores (B, N, C), finest level first.
    """
    distances = torch.cat([level.flatten(2) for level in sides], dim=2)  # (B, 4, N)
    corners = [points - distances[:, :2], points + distances[:, 2:]]
    if limits is not None:
        # `relu` instead of `clamp`: every backend has it, and limits that differ between x and y need `minimum`.
        corners = [torch.minimum(torch.relu(corner), limits) for corner in corners]
    scores = torch.cat([level.flatten(2) for level in logits], dim=2).sigmoid()
    return torch.cat(corners, dim=1).transpose(1, 2), scores.transpose(1, 2)


class RawForm(nn.Module):
    """Compute the export format `raw`: logits of all levels, then distances of all levels.

    Args:
        model: see `predict_maps`.
    """

    def __init__(self, model: BaseDetector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict the maps of images (B, 3, H, W), C + 4 channels per level; see `predict_maps`."""
        logits, distances = predict_maps(self.model, images)
        return (*logits, *distances)


class DecodedForm(nn.Module):
    """Compute the export format `decoded`: boxes, clipped to the input, and scores of all priors.

    Args:
        model: see `predict_maps`.
        size: (height, width) of a fixed input size, for which the priors are constants; None lets the graph compute
            them.
    """

    points: Tensor
    limits: Tensor

    def __init__(self, model: BaseDetector, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.model = model
        self.strides = [stride[0] for stride in model.bbox_head.prior_generator.strides]
        self.fixed = size is not None
        if size is not None:
            points, limits = self._points([(size[0] // stride, size[1] // stride) for stride in self.strides])
            self.register_buffer('points', points)
            self.register_buffer('limits', limits)

    def _points(self, shapes: Iterable[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return the priors of all levels (2, N), and the width and height of the input (2, 1)."""
        sizes = zip(shapes, self.strides, strict=True)
        levels = [grid_points(height, width, stride) for (height, width), stride in sizes]
        return torch.cat(levels, dim=1), levels[0][:, -1:] + self.strides[0]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict boxes and scores of images (B, 3, H, W); see `decode`."""
        logits, distances = predict_maps(self.model, images)
        if self.fixed:
            points, limits = self.points, self.limits
        else:
            points, limits = self._points([level.shape[-2:] for level in distances])
        if self.model.bbox_head.exp_on_reg:
            distances = [level.exp() for level in distances]
        sides = [level * stride for level, stride in zip(distances, self.strides, strict=True)]
        return decode(logits, sides, points, limits)
