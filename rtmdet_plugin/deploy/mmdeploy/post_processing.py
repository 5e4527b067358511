"""Thresholds of the steps after the network; and these steps in PyTorch, for graphs that end before them."""

from dataclasses import dataclass, fields

import torch
from mmcv.ops import batched_nms
from torch import Tensor


@dataclass(frozen=True)
class PostProcessing:
    """Settings of the steps after the network.

    Attributes:
        score_threshold: boxes below aren't given.
        iou_threshold: of the NMS, class by class.
        pre_top_k: candidates of an image before NMS, by their best class; -1 for all.
        max_output_boxes_per_class: boxes of a class after NMS.
        keep_top_k: boxes of an image.
    """

    score_threshold: float
    iou_threshold: float
    pre_top_k: int
    max_output_boxes_per_class: int
    keep_top_k: int

    @classmethod
    def of(cls, deploy_cfg: dict, test_cfg: dict | None = None) -> 'PostProcessing':
        """The deploy config's settings; what it leaves open comes from the model's `test_cfg`."""
        settings = {}
        if test_cfg is not None:
            settings = dict(
                score_threshold=test_cfg['score_thr'],
                iou_threshold=test_cfg['nms']['iou_threshold'],
                pre_top_k=test_cfg['nms_pre'],
                max_output_boxes_per_class=test_cfg['max_per_img'],
                keep_top_k=test_cfg['max_per_img'],
            )
        settings.update(deploy_cfg['codebase_config'].get('post_processing') or {})
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


def postprocess(boxes: Tensor, scores: Tensor, settings: PostProcessing) -> tuple[Tensor, Tensor]:
    """Top-k and NMS class by class for one image.

    Args:
        boxes: xyxy. (N, 4)
        scores: (N, C)
        settings: see `PostProcessing`.

    Returns:
        Boxes with score, best first (K, 5), and labels (K,).
    """
    if 0 < settings.pre_top_k < len(boxes):
        best = scores.max(dim=1).values.topk(settings.pre_top_k).indices
        boxes, scores = boxes[best], scores[best]
    index, labels = (scores > settings.score_threshold).nonzero(as_tuple=True)
    if not len(index):  # mmcv's doesn't take it
        return boxes.new_zeros(0, 5), labels
    nms = dict(type='nms', iou_threshold=settings.iou_threshold)
    dets, kept = batched_nms(boxes[index], scores[index, labels], labels, nms)
    labels = labels[kept]
    of_its_class = torch.nn.functional.one_hot(labels, scores.size(1)).cumsum(0).gather(1, labels[:, None])[:, 0]
    kept = (of_its_class <= settings.max_output_boxes_per_class).nonzero()[: settings.keep_top_k, 0]
    return dets[kept], labels[kept]
