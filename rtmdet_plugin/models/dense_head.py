"""What the heads of RTMDet have in common: priors, assignment, and the losses of classes and boxes.

Differences from mmdet:
- Post-processing is inherited from `BaseDenseHead`; assignment and loss are computed here, for all levels at once.
- A batch or an image without a valid prior gives a loss of zero that can be back-propagated; mmdet fails to unpack its
  targets.
- Losses are computed in float32 under autocast: bfloat16 has a precision of 8 bits, but pixel coordinates up to 640
  need 10.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, starmap

import torch
import torch.nn as nn
from mmcv.cnn import is_norm
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import reduce_mean
from mmengine.model import bias_init_with_prob, constant_init, normal_init
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..assigners.dynamic_soft_label import GroundTruth, targets_of
from ..assigners.matching import box_centers


class DenseHead(BaseDenseHead):
    """Base of RTMDet's heads. A subclass adds the layers: `rtm_cls`, which predicts the logits, and all others.

    Args:
        num_classes: classes without background.
        in_channels: channels of each feature map.
        anchor_generator: config of the prior generator; its strides set the number of levels.
        bbox_coder: config of the coder from distances to boxes.
        loss_cls: config of the classification loss; takes (logits, (labels, IoU)).
        loss_bbox: config of the box loss.
        train_cfg: config with `assigner`; `None` if the head is never trained.
        test_cfg: config of the post-processing.
        init_cfg: config of mmengine's initialisation.

    Raises:
        ValueError: if there is no class, or the assigner doesn't have mmdet's interface.
    """

    rtm_cls: nn.ModuleList

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        anchor_generator: dict,
        bbox_coder: dict,
        loss_cls: dict,
        loss_bbox: dict,
        train_cfg: dict | None,
        test_cfg: dict | None,
        init_cfg: dict | None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_classes < 1:
            raise ValueError(f'num_classes must be at least 1, got {num_classes}')
        self.num_classes = num_classes
        self.cls_out_channels = num_classes
        self.in_channels = in_channels
        self.prior_generator = TASK_UTILS.build(anchor_generator)
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.use_sigmoid_cls = True  # read by the inherited post-processing
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
            if not hasattr(self.assigner, 'assign'):
                raise ValueError(
                    f"train_cfg.assigner must be mmdet's or ours, got {train_cfg['assigner']['type']}; use "
                    'mmdet.RTMDynamicSoftLabelAssigner'
                )

    def init_weights(self) -> None:
        """Initialise with small normal weights, and a class bias for scores of 0.01, to limit the first losses."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, mean=0, std=0.01)
            if is_norm(module):
                constant_init(module, 1)
        for rtm_cls in self.rtm_cls:
            normal_init(rtm_cls, std=0.01, bias=bias_init_with_prob(0.01))

    def check_feats(self, feats: Sequence[Tensor]) -> None:
        """Check the number of feature maps and their channels.

        Raises:
            ValueError: if they differ from those that the head was built for.
        """
        strides = self.prior_generator.strides
        channels = [x.size(1) for x in feats]
        if channels != [self.in_channels] * len(strides):
            raise ValueError(
                f'feats must be {len(strides)} feature maps of {self.in_channels} channels (in_channels), got '
                f"{channels} channels; set bbox_head.in_channels to the neck's out_channels"
            )

    def detection_losses(
        self,
        cls_scores: tuple[Tensor, ...],
        bbox_preds: tuple[Tensor, ...],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
        centers: list[Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Assign the priors, then compute the quality focal loss of all priors and the IoU loss of the positives.

        Both losses are sums divided by the sum of the positives' IoUs (averaged over the processes, at least 1).

        Args:
            cls_scores: class logits of each level. (B, num_classes, H_i, W_i)
            bbox_preds: distances in pixels of each level. (B, 4, H_i, W_i)
            batch_gt_instances: `bboxes` (xyxy in pixels of the padded image) and `labels` of each image.
            batch_img_metas: `pad_shape` (h, w) of each image; priors outside it are ignored.
            batch_gt_instances_ignore: passed to the assigner; RTMDet's own ignores it.
            centers: x, y of each image's objects in pixels (G, 2), for the assigner; None for the boxes' centres.

        Returns:
            `loss_cls` and `loss_bbox`, scalars; the object of each prior, -1 for background (B, N); and the priors:
            x, y, stride, stride in pixels (N, 4).
        """
        logits = flatten_levels(cls_scores).float()  # (B, N, C)
        priors, valid = self.priors(cls_scores, batch_img_metas)  # (N, 4), (B, N)
        distances = flatten_levels(bbox_preds).float()
        boxes = self.bbox_coder.decode(priors[:, :2].expand(*valid.shape, 2), distances)  # (B, N, 4)

        check_ground_truth(batch_gt_instances, batch_img_metas, self.num_classes, boxes.device)
        ground_truth = pad_ground_truth(batch_gt_instances, boxes, centers)
        if hasattr(self.assigner, 'assign_batch'):
            gt_index, ious = self.assigner.assign_batch(
                logits.detach().transpose(1, 2), boxes.detach(), priors, valid, ground_truth
            )
            weights = valid.to(logits)
        else:
            gt_index, ious, weights = self._assign_each(
                logits.detach(), boxes.detach(), priors, valid, batch_gt_instances, batch_gt_instances_ignore
            )

        positive = gt_index >= 0
        labels, targets = targets_of(gt_index, ground_truth, self.num_classes)
        # Background predictions are replaced by their targets, so that they cause neither gradients nor NaN.
        boxes = torch.where(positive[..., None], boxes, targets)

        normalizer = reduce_mean(ious.sum()).clamp(min=1)
        quality = (labels.flatten(), ious.flatten())
        loss_cls = self.loss_cls(logits.flatten(0, 1), quality, weight=weights.flatten(), avg_factor=1.0)
        loss_bbox = self.loss_bbox(boxes.flatten(0, 1), targets.flatten(0, 1), weight=ious.flatten(), avg_factor=1.0)
        losses = dict(loss_cls=loss_cls / normalizer, loss_bbox=loss_bbox / normalizer)
        return losses, gt_index, priors

    def priors(self, feats: tuple[Tensor, ...], img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        """Return the priors of all levels, and which of them lie within each image.

        Args:
            feats: maps of all levels, of which only device and size are used. (B, any, H_i, W_i) each
            img_metas: `pad_shape` (h, w) of each image.

        Returns:
            Priors: x, y, stride, stride in pixels (N, 4); True for priors within the image (B, N).
        """
        device = feats[0].device
        sizes = [feat.shape[-2:] for feat in feats]
        priors = torch.cat(self.prior_generator.grid_priors(sizes, device=device, with_stride=True))
        width_height = torch.tensor([meta['pad_shape'][1::-1] for meta in img_metas])  # (B, 2)
        width_height = width_height.to(device, non_blocking=True)  # otherwise the host would wait for the device
        corners = priors[:, :2] - self.prior_generator.offset * priors[:, 2:]  # of the cells
        return priors, (corners < width_height[:, None]).all(dim=2)

    @torch.no_grad()
    def _assign_each(
        self,
        logits: Tensor,
        boxes: Tensor,
        priors: Tensor,
        valid: Tensor,
        batch_gt_instances: list[InstanceData],
        batch_gt_instances_ignore: list[InstanceData] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Assign with one of mmdet's assigners; return each prior's object index, IoU and weight, each (B, N)."""
        gt_index = torch.full(valid.shape, -1, device=logits.device)
        ious = logits.new_zeros(valid.shape)
        weights = valid.to(logits)
        ignored = batch_gt_instances_ignore or [None] * len(batch_gt_instances)
        for i, gt_instances in enumerate(batch_gt_instances):
            if not valid[i].any():
                continue
            predictions = InstanceData(scores=logits[i, valid[i]], bboxes=boxes[i, valid[i]], priors=priors[valid[i]])
            assigned = self.assigner.assign(predictions, gt_instances, ignored[i])
            gt_index[i, valid[i]] = assigned.gt_inds.clamp(min=0) - 1
            ious[i, valid[i]] = torch.where(assigned.gt_inds > 0, assigned.max_overlaps, 0).to(ious)
            weights[i, valid[i]] = (assigned.gt_inds >= 0).to(weights)  # an assigner may ask to ignore a prior: -1
        return gt_index, ious, weights


def branch(layer: Callable[[int, int], nn.Module], channels: Sequence[int], num_levels: int) -> nn.ModuleList:
    """Build the layers of a branch for each level: `layer(channels[i], channels[i + 1])` for each i."""
    return nn.ModuleList(nn.ModuleList(starmap(layer, pairwise(channels))) for _ in range(num_levels))


def prediction_layer(channels: int, kernel_size: int) -> Callable[[int], nn.Conv2d]:
    """Return a function that builds the layer after a branch with `channels`, given the number of its outputs.

    Raises:
        ValueError: if the size of its kernel isn't odd and positive.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'pred_kernel_size must be odd and positive, got {kernel_size}')
    return partial(nn.Conv2d, channels, kernel_size=kernel_size, padding=kernel_size // 2)


def share_layers(levels: nn.ModuleList, share_norm: bool = False) -> None:
    """Give the layers of each level the convolutions of the first level, and its norms as well if `share_norm`."""
    for level in levels[1:]:
        for layer, first in zip(level, levels[0], strict=True):  # pyright: ignore[reportArgumentType]  # see `through`
            layer.conv = first.conv
            if share_norm:
                layer.add_module(layer.norm_name, first.norm)


def through(layers: nn.Module, x: Tensor) -> Tensor:
    """Apply the layers of one level of a branch in their order."""
    # Each level is a ModuleList; torch's type of a ModuleList's items is Module.
    for layer in layers:  # pyright: ignore[reportGeneralTypeIssues]
        x = layer(x)
    return x


def check_ground_truth(
    batch_gt_instances: list[InstanceData], batch_img_metas: list[dict], num_classes: int, device: torch.device
) -> None:
    """Refuse objects that would be assigned wrongly without an error.

    On an accelerator only the device is checked, because other checks would wait for it; the dataset has made them.

    Raises:
        ValueError: if boxes are on another device than the predictions, boxes aren't finite, or labels are out of
            range; the message names the image.
    """
    for i, (instances, meta) in enumerate(zip(batch_gt_instances, batch_img_metas, strict=True)):
        image = meta.get('img_path', f'image {i} of the batch')
        boxes, labels = get_box_tensor(instances.bboxes), instances.labels
        if boxes.device != device:
            raise ValueError(f'{image}: boxes must be on the device of the predictions, {device}, got {boxes.device}')
        if device.type != 'cpu' or torch.compiler.is_compiling() or not len(boxes):
            continue
        if not boxes.isfinite().all():
            raise ValueError(f'{image}: boxes must be finite, got {boxes[~boxes.isfinite().all(dim=1)][0].tolist()}')
        if labels.min() < 0 or labels.max() >= num_classes:
            found = sorted(set(labels.tolist()) - set(range(num_classes)))
            raise ValueError(
                f'{image}: labels must lie in 0..{num_classes - 1} (num_classes={num_classes}), got {found}'
            )


def pad_ground_truth(
    batch_gt_instances: list[InstanceData], like: Tensor, centers: list[Tensor] | None = None
) -> GroundTruth:
    """Pad the objects of all images to the largest number in an image.

    Args:
        batch_gt_instances: `bboxes` and `labels` of each image.
        like: boxes and centres get its type and device.
        centers: x, y of each image's objects in pixels (G, 2); None for the boxes' centres.
    """
    boxes = [get_box_tensor(instances.bboxes) for instances in batch_gt_instances]
    counts = torch.tensor([len(box) for box in boxes])
    padded = pad_sequence(boxes, batch_first=True).to(like)
    labels = pad_sequence([instances.labels for instances in batch_gt_instances], batch_first=True).long()
    mask = torch.arange(int(counts.max())) < counts[:, None]
    middles = box_centers(padded) if centers is None else pad_sequence(centers, batch_first=True).to(like)
    return GroundTruth(padded, middles, labels, mask.to(like.device, non_blocking=True))


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate maps (B, C, H_i, W_i) of all levels to (B, sum of H_i * W_i, C), row by row, finest level first."""
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
