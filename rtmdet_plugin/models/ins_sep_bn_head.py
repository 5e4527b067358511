"""RTMInsSepBNHead, the head of RTMDet-Ins: boxes and classes as in RTMDet, and a mask for each object.

Source: RTMDet, arXiv 2212.07784, section 3.4. State-dict keys are mmdet's (`RTMDetInsSepBNHead`).

Differences from mmdet, in addition to those of `DenseHead`:
- In mmdet the layers of the box branch are those of the class branch, and run twice. Here they run once, with the same
  outputs and gradients. In training, the running statistics of their norms then move once in a step, as those of all
  other norms, and not twice.
- Masks: the loss is computed in chunks of positives (`mask_loss.py`); predicted masks are interpolated once, from the
  prototypes' cells to the pixels of the result, and are encoded (`rle_masks.py`). mmdet interpolates twice, and swaps
  the factors of width and height, so that a mask can have another size than its image.
- Images without padding, and of different sizes in a batch, have masks of different sizes.
"""

import math
from functools import partial

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from mmcv.ops import batched_nms
from mmdet.models.utils import filter_scores_and_topk
from mmdet.registry import MODELS
from mmdet.structures.mask import BaseInstanceMasks
from mmdet.utils import reduce_mean
from mmengine.model import normal_init
from mmengine.structures import InstanceData
from torch import Tensor

from rtmdet_runtime.mask_decoding import MAX_CELLS

from ..errors import RefusedError
from ..stride_masks import STRIDE, StrideMasks
from .dense_head import DenseHead, branch, prediction_layer, share_layers, through
from .dynamic_conv import KERNEL_PARTS, NUM_PROTOTYPES, mask_logits
from .mask_feat import MaskFeatModule
from .mask_loss import mask_loss
from .rle_masks import RLEMasks, encode_masks


@MODELS.register_module()
class RTMInsSepBNHead(DenseHead):
    """Head with branches for classes and boxes, for the kernels of the masks, and for the mask prototypes.

    Args:
        num_classes: classes without background.
        in_channels: channels of each feature map.
        feat_channels: channels within the branches.
        stacked_convs: number of convolutions in each branch before the prediction.
        share_conv: use one set of convolution weights for all levels in the branch for classes and boxes.
        pred_kernel_size: kernel of the prediction layers; odd.
        anchor_generator: config of the prior generator; its strides set the number of levels.
        bbox_coder: config of the coder from distances to boxes.
        loss_cls: config of the classification loss; takes (logits, (labels, IoU)).
        loss_bbox: config of the box loss.
        loss_mask: config of the mask loss; takes (logits, masks), returns a sum over the masks.
        norm_cfg: config of the norm layers.
        act_cfg: config of the activations.
        train_cfg: config with `assigner`; `None` if the head is never trained.
        test_cfg: config with `score_thr`, `nms_pre`, `nms`, `max_per_img`, `min_bbox_size`, `mask_thr_binary`.
        init_cfg: config of mmengine's initialisation.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        feat_channels: int = 256,
        stacked_convs: int = 2,
        share_conv: bool = True,
        pred_kernel_size: int = 1,
        anchor_generator: dict = dict(type='mmdet.MlvlPointGenerator', offset=0, strides=[8, 16, 32]),  # noqa: B006
        bbox_coder: dict = dict(type='mmdet.DistancePointBBoxCoder'),  # noqa: B006
        loss_cls: dict = dict(type='mmdet.RTMQualityFocalLoss', beta=2.0, loss_weight=1.0),  # noqa: B006
        loss_bbox: dict = dict(type='mmdet.RTMGIoULoss', loss_weight=2.0),  # noqa: B006
        loss_mask: dict = dict(type='mmdet.RTMDiceLoss', loss_weight=2.0, eps=5e-6),  # noqa: B006
        norm_cfg: dict = dict(type='BN', momentum=0.1, eps=1e-5),  # noqa: B006
        act_cfg: dict = dict(type='SiLU', inplace=True),  # noqa: B006
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            in_channels,
            anchor_generator=anchor_generator,
            bbox_coder=bbox_coder,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        strides = self.prior_generator.strides
        self.mask_stride = strides[0][0]  # of the prototypes, in pixels
        if self.mask_stride % STRIDE:
            raise ValueError(f'anchor_generator.strides must begin with a multiple of {STRIDE}, got {self.mask_stride}')
        self.loss_mask = MODELS.build(loss_mask)
        reduction = getattr(self.loss_mask, 'reduction', 'sum')
        if reduction != 'sum':
            raise ValueError(f"loss_mask.reduction must be 'sum', got {reduction!r}; the head divides by the positives")

        layer = partial(ConvModule, kernel_size=3, padding=1, norm_cfg=norm_cfg, act_cfg=act_cfg)
        prediction = prediction_layer(feat_channels, pred_kernel_size)
        channels = [in_channels, *[feat_channels] * stacked_convs]
        self.cls_convs = branch(layer, channels, len(strides))
        if share_conv:
            share_layers(self.cls_convs)
        self.reg_convs = nn.ModuleList(self.cls_convs)  # the same layers; mmdet's state dict has both names
        self.kernel_convs = branch(layer, channels, len(strides))
        self.rtm_cls, self.rtm_reg, self.rtm_kernel = (
            nn.ModuleList(prediction(number) for _ in strides) for number in (num_classes, 4, sum(KERNEL_PARTS))
        )
        self.mask_head = MaskFeatModule(in_channels, feat_channels, len(strides), NUM_PROTOTYPES, norm_cfg, act_cfg)

    def init_weights(self) -> None:
        """Initialise as RTMDet's head, with boxes of two cells, because negative distances get no gradient."""
        super().init_weights()
        for rtm_reg in self.rtm_reg:
            normal_init(rtm_reg, std=0.01, bias=1)

    def forward(
        self, feats: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """Predict on each level.

        Args:
            feats: feature maps, finest first. (B, in_channels, H_i, W_i) each

        Returns:
            Class logits (B, num_classes, H_i, W_i), distances from the prior to the left, top, right and bottom side
            in pixels, float32 (B, 4, H_i, W_i), and mask kernels (B, 169, H_i, W_i) for each level; and the mask
            prototypes (B, 8, H_0, W_0).

        Raises:
            ValueError: if the number of maps or their channels differ from those that the head was built for.
        """
        self.check_feats(feats)
        prototypes = self.mask_head(feats)
        cls_scores, bbox_preds, kernel_preds = [], [], []
        for i, (x, stride) in enumerate(zip(feats, self.prior_generator.strides, strict=True)):
            both = through(self.cls_convs[i], x)
            cls_scores.append(self.rtm_cls[i](both))
            bbox_preds.append(self.rtm_reg[i](both).float().relu() * stride[0])
            kernel_preds.append(self.rtm_kernel[i](through(self.kernel_convs[i], x)))
        return tuple(cls_scores), tuple(bbox_preds), tuple(kernel_preds), prototypes

    def loss_by_feat(
        self,
        cls_scores: tuple[Tensor, ...],
        bbox_preds: tuple[Tensor, ...],
        kernel_preds: tuple[Tensor, ...],
        mask_feat: Tensor,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of classes and boxes, see `detection_losses`, and the mask loss.

        Args:
            cls_scores: class logits, see `forward`.
            bbox_preds: distances in pixels, see `forward`.
            kernel_preds: mask kernels, see `forward`.
            mask_feat: mask prototypes, see `forward`.
            batch_gt_instances: `bboxes` (xyxy in pixels of the padded image), `labels`, and `masks` of each image:
                `StrideMasks`, or those of mmdet in pixels of the image.
            batch_img_metas: `pad_shape` (h, w) of each image; priors outside it are ignored. Masks must have this size,
                or that of `img_shape` or `batch_input_shape`.
            batch_gt_instances_ignore: passed to the assigner; RTMDet's own ignores it.

        Returns:
            `loss_cls`, `loss_bbox` and `loss_mask`, scalars; the last is the mean over the positives.

        Raises:
            RefusedError: if an image has no masks, or masks of another size.
        """
        masks = [
            stride_masks(instances, meta, mask_feat.device)
            for instances, meta in zip(batch_gt_instances, batch_img_metas, strict=True)
        ]
        plain = [InstanceData(bboxes=instances.bboxes, labels=instances.labels) for instances in batch_gt_instances]
        losses, gt_index, priors = self.detection_losses(
            cls_scores, bbox_preds, plain, batch_img_metas, batch_gt_instances_ignore, [part.centers for part in masks]
        )
        total, number = mask_loss(mask_feat, kernel_preds, priors, gt_index, masks, self.mask_stride, self.loss_mask)
        return {**losses, 'loss_mask': total / reduce_mean(total.new_tensor(float(number))).clamp(min=1)}

    def predict_by_feat(
        self,
        cls_scores: tuple[Tensor, ...],
        bbox_preds: tuple[Tensor, ...],
        kernel_preds: tuple[Tensor, ...],
        mask_feat: Tensor,
        batch_img_metas: list[dict],
        cfg: dict | None = None,
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Select the boxes of each image as mmdet, and compute their masks.

        Masks aren't cut at the sides of their boxes, as in mmdet.

        Args:
            cls_scores: class logits, see `forward`.
            bbox_preds: distances in pixels, see `forward`.
            kernel_preds: mask kernels, see `forward`.
            mask_feat: mask prototypes, see `forward`.
            batch_img_metas: `img_shape`, and for `rescale` also `ori_shape` and `scale_factor` (x, y) of each image.
            cfg: replaces `test_cfg`.
            rescale: return boxes and masks in pixels of the original image.

        Returns:
            `bboxes`, xyxy in pixels (N, 4), `scores` and `labels` (N,), and `masks`, `RLEMasks` of the size of the
            image, for each image.
        """
        settings = cfg or self.test_cfg or {}
        sizes = [level.shape[-2:] for level in cls_scores]
        priors = self.prior_generator.grid_priors(sizes, device=mask_feat.device, with_stride=True)
        results = []
        for i, meta in enumerate(batch_img_metas):
            levels = zip(cls_scores, bbox_preds, kernel_preds, priors, strict=True)
            candidates = InstanceData.cat(
                [
                    select_candidates(logits[i], distances[i], kernels[i], points, settings)
                    for logits, distances, kernels, points in levels
                ]
            )
            candidates.bboxes = self.bbox_coder.decode(
                candidates.priors[:, :2], candidates.bboxes, max_shape=meta['img_shape']
            )
            kept = select_boxes(candidates, meta, settings, rescale)
            kernels, points = kept.pop('kernels'), kept.pop('priors')
            kept.masks = self.predict_masks(mask_feat[i], kernels, points, meta, settings, rescale)
            results.append(kept)
        return results

    def predict_masks(
        self, prototypes: Tensor, kernels: Tensor, priors: Tensor, meta: dict, cfg: dict, rescale: bool
    ) -> RLEMasks:
        """Compute the masks of an image's instances.

        Args:
            prototypes: the image's mask prototypes. (8, H, W)
            kernels: kernels of the instances. (n, 169)
            priors: x, y, stride, stride in pixels. (n, 4)
            meta: see `predict_by_feat`.
            cfg: config with `mask_thr_binary`, the score above which a pixel belongs to the mask.
            rescale: make masks of the original image's size instead of `img_shape`.

        Raises:
            ValueError: if `mask_thr_binary` isn't between 0 and 1.
        """
        height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
        scale_x, scale_y = meta['scale_factor'][:2] if rescale else (1, 1)
        cells_per_pixel = (scale_y / self.mask_stride, scale_x / self.mask_stride)
        score = cfg.get('mask_thr_binary', 0.5)
        if not 0 < score < 1:
            raise ValueError(f'test_cfg.mask_thr_binary must be between 0 and 1, got {score}')
        step = max(1, MAX_CELLS // prototypes[0].numel())
        masks = RLEMasks([], (height, width))
        with torch.autocast(prototypes.device.type, enabled=False):  # coordinates need more bits than bfloat16 has
            for parts in zip(kernels.split(step), priors.split(step), strict=True):
                logits = mask_logits(prototypes, *parts, self.mask_stride)
                masks += encode_masks(logits, masks.size, cells_per_pixel, math.log(score / (1 - score)))
        return masks


def select_candidates(logits: Tensor, distances: Tensor, kernels: Tensor, priors: Tensor, cfg: dict) -> InstanceData:
    """Select the pairs of prior and class of one level whose scores are above the threshold.

    Args:
        logits: class logits. (C, H, W)
        distances: distances to the sides in pixels. (4, H, W)
        kernels: mask kernels. (169, H, W)
        priors: x, y, stride, stride in pixels. (H * W, 4)
        cfg: config with `score_thr` and `nms_pre`, the largest number.

    Returns:
        `scores` and `labels` (n,), and of the pair's prior: `bboxes`, the distances (n, 4), `kernels` (n, 169) and
        `priors` (n, 4).
    """
    scores = logits.flatten(1).T.sigmoid()
    scores, labels, at, _ = filter_scores_and_topk(scores, cfg.get('score_thr', 0), cfg.get('nms_pre', -1))
    columns = dict(bboxes=distances, kernels=kernels)
    columns = {name: column.flatten(1)[:, at].T for name, column in columns.items()}
    return InstanceData(scores=scores, labels=labels, priors=priors[at], **columns)


def select_boxes(candidates: InstanceData, meta: dict, cfg: dict, rescale: bool) -> InstanceData:
    """Select the boxes of one image by their size and the NMS, as mmdet.

    Args:
        candidates: `bboxes`, xyxy in pixels of the input (n, 4), `scores`, `labels` (n,) and others.
        meta: `scale_factor` (x, y) of the image.
        cfg: config with `min_bbox_size`, `nms` and `max_per_img`.
        rescale: return boxes in pixels of the original image.
    """
    if rescale:
        candidates.bboxes = candidates.bboxes / candidates.bboxes.new_tensor([*meta['scale_factor'][:2]] * 2)
    sides = candidates.bboxes[:, 2:] - candidates.bboxes[:, :2]
    candidates = candidates[(sides > cfg.get('min_bbox_size', -1)).all(dim=1)]
    if not len(candidates):
        return candidates
    scored, kept = batched_nms(candidates.bboxes, candidates.scores, candidates.labels, cfg['nms'])
    candidates = candidates[kept]
    candidates.scores = scored[:, -1]
    return candidates[: cfg['max_per_img']]


def stride_masks(instances: InstanceData, meta: dict, device: torch.device) -> StrideMasks:
    """Return the masks of an image's objects at `STRIDE`, on a device.

    Args:
        instances: objects with `masks`: `StrideMasks`, or mmdet's masks.
        meta: sizes (h, w) of the image before and after padding: `img_shape`, `pad_shape` and `batch_input_shape`, of
            which one must be that of the masks; and `img_path`, for messages.
        device: device of the result.

    Raises:
        RefusedError: if there are no masks, or they have another size than the image.
    """
    image = meta.get('img_path', 'an image of the batch')
    masks = instances.get('masks')
    if masks is None:
        raise RefusedError(
            f'{image}: gt_instances.masks must be masks of the objects, got none; set with_mask=True in the step that '
            'loads the annotations, or train a config without masks, such as rtmdet_s'
        )
    if isinstance(masks, BaseInstanceMasks):
        masks = StrideMasks.from_full(masks.to_ndarray())
    if not isinstance(masks, StrideMasks):
        raise RefusedError(f"{image}: gt_instances.masks must be StrideMasks or mmdet's, got {type(masks).__name__}")
    sizes = {tuple(meta[key][:2]) for key in ('img_shape', 'pad_shape', 'batch_input_shape') if key in meta}
    fits = {tuple(len(range(STRIDE // 2, side, STRIDE)) for side in size) for size in sizes}
    found = tuple(masks.pixels.shape[1:])
    if found not in fits:
        wanted, expected = (
            ' or '.join(f'{height} x {width}' for height, width in sorted(pairs)) for pairs in (sizes, fits)
        )
        raise RefusedError(
            f'{image}: masks must have the size of the image (height x width), {wanted} pixels, which is {expected} at '
            f'stride {STRIDE}, got {found[0]} x {found[1]} at stride {STRIDE}; resize masks and image alike'
        )
    return masks.to(device, non_blocking=True)
