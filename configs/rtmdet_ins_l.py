"""RTMDet-Ins-l: boxes and masks, 640 px, COCO.

    mim train mmdet configs/rtmdet_ins_l.py --launcher pytorch --gpus 8

Reported for this recipe (mmdet, 8 GPUs x 32 images): mask AP 43.7, box AP 51.2 on val2017.
57.37 M parameters, 95.93 GFLOPs (multiply-adds). The backbone isn't pretrained.
"""

_base_ = [
    '_base_/model_ins.py',
    '_base_/coco_instance.py',
    '_base_/schedule_300e.py',
    '_base_/runtime.py',
]

default_hooks = dict(
    checkpoint=dict(save_best='coco/segm_mAP'),
    pipeline_switch=dict(switch_pipeline=_base_.train_pipeline_stage2),
)
