"""The COCO dataset with masks: the training pipelines of coco_detection.py, with masks, and their evaluation.

The annotation file must have the key `segmentation`: polygons or run-length codes. Evaluation reads the masks from that
file, so the test pipeline loads none.
"""

_base_ = 'coco_detection.py'

from rtmdet_plugin import find_step

# Boxes become those around what the crop shows of the masks. In stage 1, MixUp adds objects to a crop that shows none.
train_pipeline = _base_.train_pipeline
find_step(train_pipeline, 'RTMLoadImageAndAnnotations').with_mask = True
find_step(train_pipeline, 'RTMCachedMosaicResizeCrop').update(recompute_bbox=True, allow_negative_crop=True)
train_pipeline_stage2 = _base_.train_pipeline_stage2
find_step(train_pipeline_stage2, 'RTMLoadImageAndAnnotations').with_mask = True
find_step(train_pipeline_stage2, 'RTMRandomResizeCrop').recompute_bbox = True

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
