"""Thresholds of the steps after the network; and these steps themselves, for graphs that end before them."""

from dataclasses import dataclass, fields

import numpy as np

from rtmdet_runtime.info import fits
from rtmdet_runtime.postprocess import Candidates, class_wise_nms, select_candidates

from ..export.metadata import thresholds


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
        """The deploy config's settings; what it leaves open comes from the model's `test_cfg`, see `thresholds`.

        Raises:
            ValueError: for a setting that isn't a number; see `thresholds` as well.
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
        for field in fields(cls):
            if not fits(settings[field.name], field.type.__name__):
                kind = dict(int='a whole number', float='a number')[field.type.__name__]
                raise ValueError(f'post_processing: {field.name}={settings[field.name]!r}; accepted: {kind}')
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


def postprocess(boxes: np.ndarray, scores: np.ndarray, settings: PostProcessing) -> Candidates:
    """The runtime's NMS for one image, with the two limits that mmdeploy counts otherwise: by prior, and by class.

    Args:
        boxes: xyxy. (N, 4)
        scores: (N, C)
        settings: see `PostProcessing`.

    Returns:
        Boxes (K, 4), scores (K,) and labels (K,), best first.
    """
    if 0 < settings.pre_top_k < len(boxes):
        best = np.sort(np.argsort(-scores.max(axis=1), kind='stable')[: settings.pre_top_k])
        boxes, scores = boxes[best], scores[best]
    candidates = select_candidates(boxes, scores, settings.score_threshold)
    count = len(candidates[1])
    # All of them only where the limit of a class may take some away.
    most = settings.keep_top_k if settings.max_output_boxes_per_class >= settings.keep_top_k else count
    found = class_wise_nms(candidates, settings.iou_threshold, nms_pre=count, max_per_img=most)
    labels = found[2]
    seen = np.cumsum(labels[:, None] == np.arange(scores.shape[1]), axis=0)  # (K, C)
    kept = np.flatnonzero(seen[np.arange(len(labels)), labels] <= settings.max_output_boxes_per_class)
    return tuple(part[kept[: settings.keep_top_k]] for part in found)
