"""mmdet's `PackDetInputs` with a faster conversion from (H, W, 3) to (3, H, W), and with small masks.

Boxes are packed as `HorizontalBoxes`, also if the pipeline has them as an array, because mmyolo's `yolov5_collate`
needs this type. `rtm_collate` and mmdet's data preprocessor turn them into tensors.

Masks are drawn here, at the pixels that the mask loss reads: 1/16 of the image's. mmdet packs them at full resolution,
or as polygons, which its head draws in the training process.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

from ..stride_masks import STRIDE, StrideMasks
from .outline_masks import OutlineMasks
from .scanline import areas_of, centroids_of, pixels_of


@TRANSFORMS.register_module()
class RTMPackDetInputs(PackDetInputs):
    """Pack a sample; arguments and result are those of mmdet's `PackDetInputs`, with boxes as `HorizontalBoxes`.

    If there are masks, `gt_instances.masks` are `StrideMasks`, for `RTMInsSepBNHead`. An object without any visible
    pixel is dropped, and ignored objects have no masks. Heads of mmdet need mmdet's `PackDetInputs`.
    """

    def transform(self, results: dict) -> dict:
        """Pack the image into `inputs`, (C, H, W), and the annotations into `data_samples`."""
        if results.get('gt_masks') is not None:
            results, masks = _draw_masks(results)
            packed = self.transform(results)
            packed['data_samples'].gt_instances.masks = masks
            return packed
        img = np.atleast_3d(results['img'])
        planes = np.empty((img.shape[2], *img.shape[:2]), img.dtype)
        cv2.split(img, list(planes))  # faster than a transposed copy
        packed = super().transform({key: value for key, value in results.items() if key != 'img'})
        sample = packed['data_samples']
        for instances in (sample.gt_instances, sample.ignored_instances):
            boxes = instances.get('bboxes')
            if isinstance(boxes, torch.Tensor):  # PackDetInputs selects objects faster in arrays
                instances.bboxes = HorizontalBoxes(boxes, dtype=torch.float32, clone=False)
        return {'inputs': torch.from_numpy(planes), **packed}


def _draw_masks(results: dict) -> tuple[dict, StrideMasks]:
    """Draw the masks; return the sample without them and without objects that have no visible pixel, and the masks."""
    results = {'gt_ignore_flags': np.zeros(len(results['gt_bboxes']), bool), **results}
    shown = ~np.asarray(results['gt_ignore_flags'], bool)
    masks = OutlineMasks.of(results['gt_masks'])[shown]
    runs = masks.runs()
    visible = areas_of(runs, len(masks)) > 0
    count = int(visible.sum())
    runs = runs._replace(owner=(np.cumsum(visible) - 1)[runs.owner])
    pixels = pixels_of(runs, count, (masks.width, masks.height), STRIDE)
    centers = centroids_of(runs, count).astype(np.float32)

    keep = ~shown
    keep[shown] = visible
    objects = {key: results[key][keep] for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags')}
    rest = {key: value for key, value in results.items() if key != 'gt_masks'}
    return rest | objects, StrideMasks(torch.from_numpy(pixels), torch.from_numpy(centers))
