"""Thresholds of post-processing, and post-processing itself for graphs that end before it."""

from dataclasses import dataclass
from typing import get_type_hints

import numpy as np

from rtmdet_runtime.info import fits
from rtmdet_runtime.postprocess import Candidates, class_wise_nms, select_candidates

from ..export.metadata import thresholds


@dataclass(frozen=True)
class PostProcessing:
    """Settings of post-processing.

    Attributes:
        score_threshold: boxes with lower scores are dropped.
        iou_threshold: threshold of the class-wise NMS.
        pre_top_k: candidates per image before NMS, by their best class; -1 for all.
        max_output_boxes_per_class: boxes per class after NMS.
        keep_top_k: boxes per image.
    """

    score_threshold: float
    iou_threshold: float
    pre_top_k: int
    max_output_boxes_per_class: int
    keep_top_k: int

    @classmethod
    def of(cls, deploy_cfg: dict, test_cfg: dict | None = None) -> 'PostProcessing':
        """Read the deploy config's settings; missing ones come from the model's `test_cfg`, see `thresholds`.

        Raises:
            ValueError: if a setting isn't a number; see `thresholds` as well.
        """
        settings = {}
        if test_cfg is not None:
            own = thresholds(test_cfg)
            settings = dict(
                score_threshold=own['score_thr'],
                iou_threshold=own['iou_thr'],
                pre_top_k=own['nms_pre'],
                max_output_boxes_per_class=own['max_per_img'],
                keep_top_k=own['max_per_img'],
            )
        settings.update(deploy_cfg['codebase_config'].get('post_processing') or {})
        kinds = get_type_hints(cls)
        for name, kind in kinds.items():
            if not fits(settings[name], kind):
                accepted = {int: 'an integer', float: 'a number'}[kind]
                raise ValueError(f'post_processing: {name} must be {accepted}, got {settings[name]!r}')
        return cls(**{name: settings[name] for name in kinds})


def postprocess(boxes: np.ndarray, scores: np.ndarray, settings: PostProcessing) -> Candidates:
    """Apply the runtime's NMS to one image, with mmdeploy's meaning of two limits: per prior, and per class.

    Args:
        boxes: xyxy. (N, 4)
        scores: score of each box and class. (N, C)
        settings: see `PostProcessing`.

    Returns:
        Boxes (K, 4), scores (K,) and labels (K,), best first.
    """
    if 0 < settings.pre_top_k < len(boxes):
        best = np.sort(np.argsort(-scores.max(axis=1), kind='stable')[: settings.pre_top_k])
        boxes, scores = boxes[best], scores[best]
    candidates = select_candidates(boxes, scores, settings.score_threshold)[:3]
    count, num_classes = len(candidates[1]), scores.shape[1]
    # NMS must keep all boxes only if the limit per class may drop some of them.
    most = settings.keep_top_k if settings.max_output_boxes_per_class >= settings.keep_top_k else count
    boxes, scores, labels = class_wise_nms(candidates, settings.iou_threshold, nms_pre=count, max_per_img=most)
    seen = np.cumsum(labels[:, None] == np.arange(num_classes), axis=0)  # (K, C)
    kept = np.flatnonzero(seen[np.arange(len(labels)), labels] <= settings.max_output_boxes_per_class)
    kept = kept[: settings.keep_top_k]
    return boxes[kept], scores[kept], labels[kept]
