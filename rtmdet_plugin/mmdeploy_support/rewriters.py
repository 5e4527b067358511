"""Post-processing of `RTMSepBNHead` and `RTMInsSepBNHead` within a graph, registered with mmdeploy on import.

Two differences from mmdeploy's rewriter for all dense heads, which would apply otherwise:
- Thresholds come from the deploy config; the model config's are used only if the deploy config has none.
- TensorRT gets `EfficientNMS_TRT`, which is part of TensorRT, instead of mmdeploy's own plugin `TRTBatchedNMS`, which
  must be compiled for exactly the TensorRT and CUDA that run it (mmdeploy#2026, #2758).

ONNX Runtime and OpenVINO get ONNX's `NonMaxSuppression` through mmdeploy's `multiclass_nms`, without a plugin as well.
If a deploy config names the outputs `boxes` and `scores`, the graph has no NMS: ncnn has no such layer, and
`RTMNCNNWrapper` does the rest.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.mmcv.ops import multiclass_nms
from mmdeploy.utils import get_ir_config, is_dynamic_shape
from torch import Tensor

from rtmdet_runtime.info import OUTPUTS

from ..export.forms import decode
from ..export.nms_nodes import efficient_nms_attributes
from ..models.dense_head import flatten_levels
from ..models.dynamic_conv import apply_kernels, placed_kernels, with_coordinates
from .post_processing import PostProcessing

SUFFIXES = {str: '_s', int: '_i', float: '_f'}
"""Endings by which PyTorch's exporter knows the type of a node's attribute."""
PREDICT = 'rtmdet_plugin.models.sep_bn_head.RTMSepBNHead.predict_by_feat'
PREDICT_MASKS = 'rtmdet_plugin.models.ins_sep_bn_head.RTMInsSepBNHead.predict_by_feat'


def all_boxes(head, cls_scores: list[Tensor], bbox_preds: list[Tensor], *, static: bool) -> tuple[Tensor, Tensor]:
    """Decode all boxes, see `decode`; they aren't clipped, like PyTorch's in `Job.of`.

    Args:
        head: the head; its prior generator is used.
        cls_scores: class logits. (B, C, H_i, W_i) each
        bbox_preds: distances to left, top, right, bottom in pixels. (B, 4, H_i, W_i) each
        static: make the priors constants of the graph; otherwise they follow the size of the input.
    """
    sizes = sizes_of(cls_scores, static)
    points = torch.cat(head.prior_generator.grid_priors(sizes, device=cls_scores[0].device)).T  # (2, N)
    return decode(cls_scores, bbox_preds, points)


def sizes_of(levels: Sequence[Tensor], static: bool) -> Sequence[Sequence[int]]:
    """Return (height, width) of each level; as constants of the graph if it is static."""
    sizes = [level.shape[-2:] for level in levels]
    return [tuple(int(side) for side in size) for size in sizes] if static else sizes


@FUNCTION_REWRITER.register_rewriter(PREDICT)
def predict_by_feat(
    self, cls_scores, bbox_preds, score_factors=None, batch_img_metas=None, cfg=None, rescale=False, with_nms=True
):
    """Return `dets` (B, keep_top_k, 5), xyxy in pixels of the input and score, and `labels` (B, keep_top_k)."""
    context = FUNCTION_REWRITER.get_context()
    settings = PostProcessing.of(context.cfg, self.test_cfg)
    boxes, scores = all_boxes(self, cls_scores, bbox_preds, static=not is_dynamic_shape(context.cfg))
    if tuple(get_ir_config(context.cfg)['output_names']) == OUTPUTS['decoded']:
        return boxes, scores
    return multiclass_nms(
        boxes,
        scores,
        settings.max_output_boxes_per_class,
        iou_threshold=settings.iou_threshold,
        score_threshold=settings.score_threshold,
        pre_top_k=settings.pre_top_k,
        keep_top_k=settings.keep_top_k,
    )


@FUNCTION_REWRITER.register_rewriter(PREDICT_MASKS)
def predict_masks(self, cls_scores, bbox_preds, kernel_preds, mask_feat, batch_img_metas=None, cfg=None, rescale=False):
    """Return `dets` and `labels` as `predict_by_feat`, and `masks`.

    `masks` (B, keep_top_k, H, W) has the score of each pixel of the input; that of rows without a box has no meaning.
    """
    context = FUNCTION_REWRITER.get_context()
    settings = PostProcessing.of(context.cfg, self.test_cfg)
    static = not is_dynamic_shape(context.cfg)
    boxes, scores = all_boxes(self, cls_scores, bbox_preds, static=static)
    dets, labels, places = multiclass_nms(
        boxes,
        scores,
        settings.max_output_boxes_per_class,
        iou_threshold=settings.iou_threshold,
        score_threshold=settings.score_threshold,
        # Without a limit, mmdeploy returns places in the output of NMS for batches, instead of those of the boxes.
        pre_top_k=settings.pre_top_k if settings.pre_top_k > 0 else boxes.shape[1],
        keep_top_k=settings.keep_top_k,
        output_index=True,
    )
    images = torch.arange(boxes.shape[0], device=boxes.device).view(-1, 1)
    priors = self.prior_generator.grid_priors(sizes_of(cls_scores, static), device=boxes.device, with_stride=True)
    kernels = placed_kernels(flatten_levels(kernel_preds)[images, places], torch.cat(priors)[places])
    logits = apply_kernels(with_coordinates(mask_feat, self.mask_stride), kernels)
    return dets, labels, F.interpolate(logits, scale_factor=self.mask_stride, mode='bilinear').sigmoid()


@FUNCTION_REWRITER.register_rewriter(PREDICT, backend='tensorrt')
def predict_by_feat__tensorrt(
    self, cls_scores, bbox_preds, score_factors=None, batch_img_metas=None, cfg=None, rescale=False, with_nms=True
):
    """Return the same as `predict_by_feat`; rows after the last box have score 0 and label -1."""
    context = FUNCTION_REWRITER.get_context()
    settings = PostProcessing.of(context.cfg, self.test_cfg)
    boxes, scores = all_boxes(self, cls_scores, bbox_preds, static=not is_dynamic_shape(context.cfg))
    count, boxes, scores, labels = EfficientNMS.apply(
        boxes, scores, settings.score_threshold, settings.iou_threshold, settings.keep_top_k
    )
    # The plugin outputs the number of boxes; mmdeploy instead checks their scores.
    filled = torch.arange(settings.keep_top_k, dtype=torch.int32, device=count.device) < count
    dets = torch.cat((boxes, scores.unsqueeze(-1)), dim=-1)
    return dets * filled.unsqueeze(-1), torch.where(filled, labels, torch.full_like(labels, -1))


class EfficientNMS(torch.autograd.Function):
    """TensorRT's `EfficientNMS_TRT` in an ONNX graph; in PyTorch only its shapes and types are correct."""

    @staticmethod
    def forward(ctx, boxes: Tensor, scores: Tensor, score_threshold: float, iou_threshold: float, keep_top_k: int):
        """Return the number of boxes (B, 1), boxes (B, K, 4), scores (B, K) and labels (B, K)."""
        batch = boxes.size(0)
        labels = torch.zeros(batch, keep_top_k, dtype=torch.int32)
        return labels[:, :1], boxes.new_zeros(batch, keep_top_k, 4), scores.new_zeros(batch, keep_top_k), labels

    @staticmethod
    def symbolic(g, boxes, scores, score_threshold: float, iou_threshold: float, keep_top_k: int):
        """Add the node to the graph."""
        attributes = efficient_nms_attributes(score_threshold, iou_threshold, keep_top_k)
        typed = {name + SUFFIXES[type(value)]: value for name, value in attributes.items()}
        outputs = g.op('TRT::EfficientNMS_TRT', boxes, scores, **typed, outputs=4)
        batch = boxes.type().varyingSizes()[0]  # None if it is dynamic
        shapes = ([batch, 1], [batch, keep_top_k, 4], [batch, keep_top_k], [batch, keep_top_k])
        kinds = (torch.int32, torch.float32, torch.float32, torch.int32)
        for output, shape, kind in zip(outputs, shapes, kinds, strict=True):
            output.setType(boxes.type().with_dtype(kind).with_sizes(shape))
        return outputs
