"""RTMSepBNHead, the detection head of RTMDet: convolutions shared over the levels, separate batch norms per level.

Source: RTMDet, arXiv 2212.07784, sections 3.2-3.3. State-dict keys are mmdet's (`RTMDetSepBNHead`).

Differences from mmdet, in addition to those of `DenseHead`:
- Distances are computed in float32 under autocast.
- It takes mmyolo's training batches and letterboxed images as well, as `bbox_head` of its `YOLODetector`.
"""

from functools import partial

import torch.nn as nn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ..mmyolo_support.letterbox import check_test_cfg, is_letterboxed, select_boxes
from ..mmyolo_support.training_batch import unpack_batch
from .dense_head import DenseHead, branch, prediction_layer, share_layers, through


@MODELS.register_module()
class RTMSepBNHead(DenseHead):
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
        check_settings(share_conv, share_norm, use_depthwise, with_objectness)
        check_test_cfg(test_cfg)
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
        self.exp_on_reg = exp_on_reg
        layer = partial(
            DepthwiseSeparableConvModule if use_depthwise else ConvModule,
            kernel_size=3,
            padding=1,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        prediction = prediction_layer(feat_channels, pred_kernel_size)
        channels = [in_channels, *[feat_channels] * stacked_convs]
        num_levels = len(self.prior_generator.strides)
        self.cls_convs, self.reg_convs = (branch(layer, channels, num_levels) for _ in range(2))
        if share_conv:
            share_layers(self.cls_convs, share_norm)
            share_layers(self.reg_convs, share_norm)
        self.rtm_cls = nn.ModuleList(prediction(num_classes) for _ in range(num_levels))
        self.rtm_reg = nn.ModuleList(prediction(4) for _ in range(num_levels))

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
        self.check_feats(feats)
        cls_scores, bbox_preds = [], []
        for i, (x, stride) in enumerate(zip(feats, self.prior_generator.strides, strict=True)):
            distances = self.rtm_reg[i](through(self.reg_convs[i], x)).float()  # in cells
            cls_scores.append(self.rtm_cls[i](through(self.cls_convs[i], x)))
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
        """Compute the losses of classes and boxes, see `detection_losses`.

        Args:
            cls_scores: class logits, see `forward`.
            bbox_preds: distances in pixels, see `forward`.
            batch_gt_instances: `bboxes` (xyxy in pixels of the padded image) and `labels` of each image.
            batch_img_metas: `pad_shape` (h, w) of each image; priors outside it are ignored.
            batch_gt_instances_ignore: passed to the assigner; RTMDet's own ignores it.

        Returns:
            `loss_cls` and `loss_bbox`, scalars.
        """
        losses, _, _ = self.detection_losses(
            cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        return losses

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


def check_settings(
    share_conv: bool,
    share_norm: bool,
    use_depthwise: bool,
    with_objectness: bool,
) -> None:
    """Raise a `ValueError` for settings of `RTMSepBNHead` that are out of range or don't go together."""
    if with_objectness:
        raise ValueError('with_objectness=True is not supported: RTMDet has no objectness branch; leave it out')
    if share_norm and not share_conv:
        raise ValueError('share_norm=True needs share_conv=True: a shared norm belongs to a shared convolution')
    if use_depthwise and share_conv:
        raise ValueError('use_depthwise=True needs share_conv=False: depthwise branches are not shared')
