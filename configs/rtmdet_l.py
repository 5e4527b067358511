"""RTMDet-l, 640 px, COCO.

    mim train mmdet configs/rtmdet_l.py --launcher pytorch --gpus 8

Reported for this recipe (mmdet, 8 GPUs x 32 images): box AP 51.5 on val2017; 2.44 ms (TensorRT FP16, batch 1,
RTX 3090, without NMS). 52.32 M parameters, 79.90 GFLOPs (multiply-adds). The backbone isn't
pretrained.
"""

_base_ = [
    '_base_/model.py',
    '_base_/coco_detection.py',
    '_base_/tta.py',
    '_base_/schedule_300e.py',
    '_base_/runtime.py',
]

default_hooks = dict(pipeline_switch=dict(switch_pipeline=_base_.train_pipeline_stage2))
