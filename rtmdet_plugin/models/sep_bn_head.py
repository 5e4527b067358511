"""RTMSepBNHead, the detection head of RTMDet: convolutions shared over the levels, separate batch norms per level.

Source: RTMDet, arXiv 2212.07784, sections 3.2-3.3. State-dict keys are mmdet's (`RTMDetSepBNHead`).

Differences from mmdet:
- One class, derived from `BaseDenseHead`. Post-processing is inherited; assignment and loss are computed here, for all
  levels at once.
- A batch or an image without a valid prior gives a loss of zero that can be back-propagated; mmdet fails to unpack its
  targets.
- Distances and losses are computed in float32 under autocast: bfloat16 has a precision of 8 bits, but pixel coordinates
  up to 640 need 10.
- It takes mmyolo's training batches and letterboxed images as well, as `bbox_head` of its `YOLODetector`.
"""

from functools import partial
from itertools import pairwise, starmap

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule, is_norm
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import reduce_mean
from mmengine.model import bias_init_with_prob, constant_init, normal_init
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..assigners.dynamic_soft_label import GroundTruth, targets_of
from ..mmyolo_support.letterbox import check_test_cfg, is_letterboxed, select_boxes
from ..mmyolo_support.training_batch import unpack_batch


@MODELS.register_module()
class RTMSepBNHead(BaseDenseHead):
    """Detection head with a classification and a box branch for each level.

    `share_conv` and `share_norm` select one of the paper's three variants: separated (False, False), SepBN (True,
    False; the default), fully shared (True, True).

    Args:
        num_classes: classes without background.
        in_channels: channels of each feature map.
        feat_channels: channels within the branches.
        stacked_convs: number of convolutions in each branch before the prediction.
        share_conv: use one set of convolution weights for all levels.
        share_norm: use one set of norms for all levels as well.
        use_depthwise: use depthwise separable convolutions (nano).
        exp_on_reg: predict the logarithm of the distances (m, l, x) instead of the distances (nano, tiny, s).
        pred_kernel_size: kernel of the prediction layers; odd.
        with_objectness: must be False; exists because mmdet's configs set it.
        anchor_generator: config of the prior generator; its strides set the number of levels.
        bbox_coder: config of the coder from distances to boxes.
        loss_cls: config of the classification loss; takes (logits, (labels, IoU)).
        loss_bbox: config of the box loss.
        norm_cfg: config of the norm layers.
        act_cfg: config of the activations.
        train_cfg: config with `assigner`; `None` if the head is never trained.
        test_cfg: config with `score_thr`, `nms_pre`, `nms`, `max_per_img`, `min_bbox_size`.
        init_cfg: config of mmengine's initialisation.

    Raises:
        ValueError: if a setting is out of range, or settings exclude each other.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        feat_channels: int = 256,
        stacked_convs: int = 2,
        share_conv: bool = True,
        share_norm: bool = False,
        use_depthwise: bool = False,
        exp_on_reg: bool = False,
        pred_kernel_size: int = 1,
        with_objectness: bool = False,
        anchor_generator: dict = dict(type='mmdet.MlvlPointGenerator', offset=0, strides=[8, 16, 32]),  # noqa: B006
        bbox_coder: dict = dict(type='mmdet.DistancePointBBoxCoder'),  # noqa: B006
        loss_cls: dict = dict(type='mmdet.RTMQualityFocalLoss', beta=2.0, loss_weight=1.0),  # noqa: B006
        loss_bbox: dict = dict(type='mmdet.RTMGIoULoss', loss_weight=2.0),  # noqa: B006
        norm_cfg: dict = dict(type='BN', momentum=0.1, eps=1e-5),  # noqa: B006
        act_cfg: dict = dict(type='SiLU', inplace=True),  # noqa: B006
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_settings(num_classes, share_conv, share_norm, use_depthwise, pred_kernel_size, with_objectness)
        check_test_cfg(test_cfg)
        self.num_classes = num_classes
        self.cls_out_channels = num_classes
        self.in_channels = in_channels
        self.exp_on_reg = exp_on_reg
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

        layer = partial(
            DepthwiseSeparableConvModule if use_depthwise else ConvModule,
            kernel_size=3,
            padding=1,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        prediction = partial(nn.Conv2d, feat_channels, kernel_size=pred_kernel_size, padding=pred_kernel_size // 2)
        channels = [in_channels, *[feat_channels] * stacked_convs]
        num_levels = len(self.prior_generator.strides)
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(nn.ModuleList(starmap(layer, pairwise(channels))) for _ in range(num_levels))
            for _ in range(2)
        )
        if share_conv:
            share_layers(self.cls_convs, share_norm)
            share_layers(self.reg_convs, share_norm)
        self.rtm_cls = nn.ModuleList(prediction(num_classes) for _ in range(num_levels))
        self.rtm_reg = nn.ModuleList(prediction(4) for _ in range(num_levels))

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

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Predict on each level.

        Args:
            feats: feature maps, finest first. (B, in_channels, H_i, W_i) each

        Returns:
            Class logits (B, num_classes, H_i, W_i) and distances from the prior to the left, top, right and bottom
            side in pixels, float32 (B, 4, H_i, W_i), for each level.

        Raises:
            ValueError: if the number of maps or their channels differ from those that the head was built for.
        """
        strides = self.prior_generator.strides
        channels = [x.size(1) for x in feats]
        if channels != [self.in_channels] * len(strides):
            raise ValueError(
                f'feats must be {len(strides)} feature maps of {self.in_channels} channels (in_channels), got '
                f"{channels} channels; set bbox_head.in_channels to the neck's out_channels"
            )
        cls_scores, bbox_preds = [], []
        for i, (x, stride) in enumerate(zip(feats, strides, strict=True)):
            cls_feat = reg_feat = x
            # Each level is a ModuleList; torch's type of a ModuleList's items is Module.
            for layer in self.cls_convs[i]:  # pyright: ignore[reportGeneralTypeIssues]
                cls_feat = layer(cls_feat)
            for layer in self.reg_convs[i]:  # pyright: ignore[reportGeneralTypeIssues]
                reg_feat = layer(reg_feat)
            distances = self.rtm_reg[i](reg_feat).float()  # in cells
            cls_scores.append(self.rtm_cls[i](cls_feat))
            bbox_preds.append((distances.exp() if self.exp_on_reg else distances) * stride[0])
        return tuple(cls_scores), tuple(bbox_preds)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list[DetDataSample] | dict) -> dict[str, Tensor]:
        """Predict and compute the losses.

        Args:
            x: feature maps, see `forward`.
            batch_data_samples: samples with ground truth, or a batch of mmyolo, see `unpack_batch`.

        Returns:
            `loss_cls` and `loss_bbox`, see `loss_by_feat`.
        """
        if isinstance(batch_data_samples, dict):
            cls_scores, bbox_preds = self(x)
            return self.loss_by_feat(cls_scores, bbox_preds, *unpack_batch(batch_data_samples))
        return super().loss(x, batch_data_samples)

    def loss_by_feat(
        self,
        cls_scores: tuple[Tensor, ...],
        bbox_preds: tuple[Tensor, ...],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Assign the priors, then compute the quality focal loss of all priors and the IoU loss of the positives.

        Both losses are sums divided by the sum of the positives' IoUs (averaged over the processes, at least 1).

        Args:
            cls_scores: class logits, see `forward`.
            bbox_preds: distances in pixels, see `forward`.
            batch_gt_instances: `bboxes` (xyxy in pixels of the padded image) and `labels` of each image.
            batch_img_metas: `pad_shape` (h, w) of each image; priors outside it are ignored.
            batch_gt_instances_ignore: passed to the assigner; RTMDet's own ignores it.

        Returns:
            `loss_cls` and `loss_bbox`, scalars.
        """
        logits = flatten_levels(cls_scores).float()  # (B, N, C)
        priors, valid = self.priors(cls_scores, batch_img_metas)  # (N, 4), (B, N)
        distances = flatten_levels(bbox_preds).float()
        boxes = self.bbox_coder.decode(priors[:, :2].expand(*valid.shape, 2), distances)  # (B, N, 4)

        check_ground_truth(batch_gt_instances, batch_img_metas, self.num_classes, boxes.device)
        ground_truth = pad_ground_truth(batch_gt_instances, boxes)
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
        return dict(loss_cls=loss_cls / normalizer, loss_bbox=loss_bbox / normalizer)

    def predict_by_feat(
        self,
        cls_scores: tuple[Tensor, ...],
        bbox_preds: tuple[Tensor, ...],
        score_factors: None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: dict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Select the boxes of each image: as mmdet, or as mmyolo if its `LetterResize` padded the images.

        Args:
            cls_scores: class logits, see `forward`.
            bbox_preds: distances in pixels, see `forward`.
            score_factors: not used.
            batch_img_metas: `img_shape`, `ori_shape`, `scale_factor` and, if letterboxed, `pad_param` of each image.
            cfg: replaces `test_cfg`.
            rescale: return boxes in pixels of the original image.
            with_nms: apply the NMS.

        Returns:
            `bboxes`, xyxy in pixels (N, 4), `scores` and `labels` (N,) of each image.
        """
        predict = partial(super().predict_by_feat, cls_scores, bbox_preds, None, cfg=cfg)
        metas, settings = batch_img_metas or [], cfg or self.test_cfg or {}
        if not is_letterboxed(metas):
            return predict(batch_img_metas=metas, rescale=rescale, with_nms=with_nms)
        unclipped = [{**meta, 'img_shape': None} for meta in metas]
        candidates = predict(batch_img_metas=unclipped, rescale=False, with_nms=False)
        return [
            select_boxes(results, meta, settings, rescale, with_nms)
            for results, meta in zip(candidates, metas, strict=True)
        ]

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


def check_settings(
    num_classes: int,
    share_conv: bool,
    share_norm: bool,
    use_depthwise: bool,
    pred_kernel_size: int,
    with_objectness: bool,
) -> None:
    """Raise a `ValueError` for settings of `RTMSepBNHead` that are out of range or don't go together."""
    if num_classes < 1:
        raise ValueError(f'num_classes must be at least 1, got {num_classes}')
    if with_objectness:
        raise ValueError('with_objectness=True is not supported: RTMDet has no objectness branch; leave it out')
    if share_norm and not share_conv:
        raise ValueError('share_norm=True needs share_conv=True: a shared norm belongs to a shared convolution')
    if pred_kernel_size < 1 or pred_kernel_size % 2 == 0:
        raise ValueError(f'pred_kernel_size must be odd and positive, got {pred_kernel_size}')
    if use_depthwise and share_conv:
        raise ValueError('use_depthwise=True needs share_conv=False: depthwise branches are not shared')


def share_layers(levels: nn.ModuleList, share_norm: bool) -> None:
    """Give the layers of each level the convolutions of the first level, and its norms as well if `share_norm`."""
    for level in levels[1:]:
        for layer, first in zip(level, levels[0], strict=True):  # pyright: ignore[reportArgumentType]  # see `forward`
            layer.conv = first.conv
            if share_norm:
                layer.add_module(layer.norm_name, first.norm)


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


def pad_ground_truth(batch_gt_instances: list[InstanceData], like: Tensor) -> GroundTruth:
    """Pad the objects of all images to the largest number in an image; boxes get the type and device of `like`."""
    boxes = [get_box_tensor(instances.bboxes) for instances in batch_gt_instances]
    counts = torch.tensor([len(box) for box in boxes])
    padded = pad_sequence(boxes, batch_first=True).to(like)
    labels = pad_sequence([instances.labels for instances in batch_gt_instances], batch_first=True).long()
    mask = torch.arange(int(counts.max())) < counts[:, None]
    return GroundTruth(padded, labels, mask.to(like.device, non_blocking=True))


def flatten_levels(maps: tuple[Tensor, ...]) -> Tensor:
    """Concatenate maps (B, C, H_i, W_i) of all levels to (B, sum of H_i * W_i, C), row by row, finest level first."""
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
