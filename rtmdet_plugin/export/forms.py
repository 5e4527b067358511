"""Modules that PyTorch traces to the exported graph, one for each of the export formats `raw` and `decoded`.

The export formats `nms` and `trt` are `decoded` with NMS nodes, see `nms_nodes.py`. With masks, `nms` has its own
module, whose outputs are the inputs of the nodes that compute the masks, see `mask_nodes.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.dense_head import flatten_levels, through
from ..models.dynamic_conv import placed_kernels, with_coordinates

if TYPE_CHECKING:
    from mmdet.models import BaseDetector


class BoxMaps(nn.Module):
    """Compute what the last convolutions of a detector predict on each level.

    Args:
        model: a detector with RTMDet's head, ours or mmdet's.
    """

    def __init__(self, model: BaseDetector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[list[Tensor], ...]:
        """Predict on normalised images (B, 3, H, W).

        Returns:
            Logits (B, C, H_i, W_i) and distances (B, 4, H_i, W_i) in cells, or their logarithms if `exp_on_reg`; of
            each level, finest first.
        """
        return predict_boxes(self.model, self.model.extract_feat(images))


class MaskMaps(BoxMaps):
    """Compute the same for a detector with masks, and what it computes them from.

    Args:
        model: a detector with the head of RTMDet-Ins, ours or mmdet's.
    """

    def __init__(self, model: BaseDetector) -> None:
        super().__init__(model)
        head = model.bbox_head
        self.strides = [stride[0] for stride in head.prior_generator.strides]
        # One convolution for each level, see `models/mask_feat.py`. To be quantised, their weights must be constants of
        # the graph, and not parts of one tensor.
        fusion = head.mask_head.fusion_conv
        self.fusions = nn.ModuleList()
        for weight in fusion.weight.chunk(len(self.strides), dim=1):
            part = nn.Conv2d(weight.size(1), weight.size(0), 1, bias=not self.fusions)
            part.weight = nn.Parameter(weight.clone())
            self.fusions.append(part)
        self.fusions[0].bias = fusion.bias

    def forward(self, images: Tensor) -> tuple[list[Tensor], ...]:
        """Predict on normalised images (B, 3, H, W).

        Returns:
            Logits (B, C, H_i, W_i), distances (B, 4, H_i, W_i) in cells and kernels (B, 169, H_i, W_i) of each level,
            finest first; and the prototypes (B, 8, H_0, W_0).
        """
        head, feats = self.model.bbox_head, self.model.extract_feat(images)
        logits, distances = predict_boxes(self.model, feats)
        towers = zip(head.rtm_kernel, head.kernel_convs, feats, strict=True)
        kernels = [predict(through(layers, feat)) for predict, layers, feat in towers]
        return logits, [level.relu() for level in distances], kernels, [self.prototypes(feats)]

    def prototypes(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute the prototypes (B, 8, H_0, W_0) from feature maps."""
        fused, *coarser = (fusion(feat) for fusion, feat in zip(self.fusions, feats, strict=True))
        for level, stride in zip(coarser, self.strides[1:], strict=True):
            fused = fused + F.interpolate(level, scale_factor=stride / self.strides[0], mode='bilinear')
        mask_head = self.model.bbox_head.mask_head
        return mask_head.projection(mask_head.stacked_convs(fused))


def predict_boxes(model: BaseDetector, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of a model's last convolutions for logits and distances on each level."""
    head = model.bbox_head
    logits, distances = [], []
    for i, feat in enumerate(feats):
        cls_feat = through(head.cls_convs[i], feat)
        # RTMDet-Ins has the same layers in both branches.
        shared = head.reg_convs[i] is head.cls_convs[i]
        logits.append(head.rtm_cls[i](cls_feat))
        distances.append(head.rtm_reg[i](cls_feat if shared else through(head.reg_convs[i], feat)))
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
    """Compute the export format `raw`: the maps of all levels, logits first.

    Args:
        maps: computes the maps of images.
    """

    def __init__(self, maps: BoxMaps) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict the maps of images (B, 3, H, W); see `BoxMaps` and `MaskMaps`."""
        return tuple(chain.from_iterable(self.maps(images)))


class DecodedForm(nn.Module):
    """Compute the export format `decoded`: boxes, clipped to the input, and scores of all priors.

    Args:
        maps: computes the maps of images.
        size: (height, width) of a fixed input size, for which the priors are constants; None lets the graph compute
            them.
    """

    points: Tensor
    limits: Tensor

    def __init__(self, maps: BoxMaps, size: tuple[int, int] | None) -> None:
        super().__init__()
        head = maps.model.bbox_head
        self.maps = maps
        self.exp_on_reg = getattr(head, 'exp_on_reg', False)  # heads with masks don't have it
        self.strides = [stride[0] for stride in head.prior_generator.strides]
        self.fixed = None if size is None else [(size[0] // stride, size[1] // stride) for stride in self.strides]
        if self.fixed is not None:
            points, limits = self._points(self.fixed)
            self.register_buffer('points', points)
            self.register_buffer('limits', limits)

    def _points(self, shapes: Iterable[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return the priors of all levels (2, N), and the width and height of the input (2, 1)."""
        sizes = zip(shapes, self.strides, strict=True)
        levels = [grid_points(height, width, stride) for (height, width), stride in sizes]
        return torch.cat(levels, dim=1), levels[0][:, -1:] + self.strides[0]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict boxes (B, N, 4) and scores (B, N, C) of images (B, 3, H, W); see `decode`."""
        return self.boxes(*self.maps(images))

    def boxes(self, logits: list[Tensor], distances: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Decode the maps of all levels; see `BoxMaps` and `decode`."""
        if self.fixed is not None:
            points, limits = self.points, self.limits
        else:
            points, limits = self._points([level.shape[-2:] for level in distances])
        if self.exp_on_reg:
            distances = [level.exp() for level in distances]
        sides = [level * stride for level, stride in zip(distances, self.strides, strict=True)]
        return decode(logits, sides, points, limits)


class DecodedMaskForm(DecodedForm):
    """Compute the export format `decoded` with masks: boxes, scores and kernels of all priors, and the prototypes."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict boxes (B, N, 4), scores (B, N, C), kernels (B, N, 169) and prototypes (B, 8, H_0, W_0)."""
        logits, distances, kernels, (prototypes,) = self.maps(images)
        return *self.boxes(logits, distances), flatten_levels(kernels), prototypes


class PlacedMaskForm(DecodedForm):
    """Compute the inputs of the nodes for NMS and masks.

    They are those of `DecodedMaskForm`, but kernels contain the position of their prior, and the coordinates of the
    cells are before the prototypes.
    """

    priors: Tensor

    def __init__(self, maps: BoxMaps, size: tuple[int, int] | None) -> None:
        super().__init__(maps, size)
        if self.fixed is not None:
            self.register_buffer('priors', self._priors(self.fixed))

    def _priors(self, shapes: Iterable[Sequence[int]]) -> Tensor:
        """Return x, y and stride of the priors of all levels, (N, 3)."""
        sizes = zip(shapes, self.strides, strict=True)
        levels = [(grid_points(height, width, stride), stride) for (height, width), stride in sizes]
        return torch.cat([torch.cat([points, 0 * points[:1] + stride]) for points, stride in levels], dim=1).T

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict boxes (B, N, 4), scores (B, N, C), kernels (B, N, 169) and inputs of masks (B, 10, H_0, W_0).

        See `placed_kernels` and `with_coordinates`.
        """
        logits, distances, kernels, (prototypes,) = self.maps(images)
        priors = self.priors if self.fixed is not None else self._priors([level.shape[-2:] for level in distances])
        kernels = placed_kernels(flatten_levels(kernels), priors)
        return *self.boxes(logits, distances), kernels, with_coordinates(prototypes, self.strides[0])
