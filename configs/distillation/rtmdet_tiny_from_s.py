"""RTMDet-tiny that learns from RTMDet-s until stage 2, 640 px, COCO.

    mim train mmdet configs/distillation/rtmdet_tiny_from_s.py --launcher pytorch --gpus 8

Reported by mmyolo for its recipe with mmrazor: box AP 41.8 on val2017, 41.0 without a teacher. Not measured here.
The teacher's weights are mmdet's and are downloaded once. To use others, add
`--cfg-options default_hooks.distillation.teacher_ckpt=FILE`. Checkpoints are those of a plain RTMDet-tiny.
"""

_base_ = '../rtmdet_tiny.py'

default_hooks = dict(
    distillation=dict(
        type='RTMDistillationHook',
        teacher_config='rtmdet_plugin::rtmdet_s.py',
        teacher_ckpt='https://download.openmmlab.com/mmdetection/v3.0/rtmdet/rtmdet_s_8xb32-300e_coco/'
        'rtmdet_s_8xb32-300e_coco_20220905_161602-387a891e.pth',
    ),
)
