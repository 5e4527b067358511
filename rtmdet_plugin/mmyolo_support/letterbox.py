"""Boxes on images that mmyolo's `LetterResize` padded on all sides.

mmyolo's post-processing differs from mmdet's: `nms_pre` counts the candidates of all levels together, and boxes are
clipped once, to the original image, after the NMS.
"""

from collections.abc import Mapping, Sequence

from mmcv.ops import batched_nms
from mmengine.structures import InstanceData

SETTINGS = dict(multi_label=True, yolox_style=False)
"""Settings of mmyolo's `test_cfg` that have only this value here."""


def check_test_cfg(test_cfg: Mapping | None) -> None:
    """Refuse settings of mmyolo that the head doesn't implement.

    Raises:
        ValueError: if one of `SETTINGS` has another value.
    """
    for name, value in SETTINGS.items():
        given = (test_cfg or {}).get(name, value)
        if given != value:
            raise ValueError(f"test_cfg.{name} must be {value}, got {given}; set it, or keep mmyolo's RTMDetHead")


def is_letterboxed(metas: Sequence[Mapping]) -> bool:
    """Return whether the images of a batch have the padding that mmyolo's `LetterResize` records."""
    return bool(metas) and all('pad_param' in meta for meta in metas)


def select_boxes(results: InstanceData, meta: Mapping, cfg: Mapping, rescale: bool, with_nms: bool) -> InstanceData:
    """Select the boxes of one image.

    Args:
        results: candidates: `bboxes`, xyxy in pixels of the padded image (N, 4), `scores` and `labels` (N,).
        meta: `pad_param` (top, bottom, left, right) and `scale_factor` (x, y) of the image, and `ori_shape` (height,
            width).
        cfg: `nms_pre`, `nms` and `max_per_img`.
        rescale: return boxes in pixels of the original image, clipped to it.
        with_nms: apply the NMS, and return at most `max_per_img` boxes.
    """
    nms_pre = cfg.get('nms_pre', -1)
    if 0 < nms_pre < len(results):
        results = results[results.scores.topk(nms_pre).indices]
    if rescale:
        top, _, left, _ = meta['pad_param']
        offset = results.bboxes.new_tensor([left, top] * 2)
        results.bboxes = (results.bboxes - offset) / offset.new_tensor(list(meta['scale_factor']) * 2)
    if with_nms and len(results):
        scored, keep = batched_nms(results.bboxes, results.scores, results.labels, cfg['nms'])
        results = results[keep]
        results.scores = scored[:, -1]
        results = results[: cfg['max_per_img']]
    if rescale:
        height, width = meta['ori_shape']
        results.bboxes[:, 0::2].clamp_(0, width)
        results.bboxes[:, 1::2].clamp_(0, height)
    return results
