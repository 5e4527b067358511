"""RTMDet-l that learns from RTMDet-x until stage 2, 640 px, COCO.

    mim train mmdet configs/distillation/rtmdet_l_from_x.py --launcher pytorch --gpus 8

Reported by mmyolo for its recipe with mmrazor: box AP 52.3 on val2017, 51.4 without a teacher. Not measured here.
The teacher's weights are mmdet's and are downloaded once. To use others, add
`--cfg-options default_hooks.distillation.teacher_ckpt=FILE`. Checkpoints are those of a plain RTMDet-l.
"""

_base_ = '../rtmdet_l.py'

default_hooks = dict(
    distillation=dict(
        type='RTMDistillationHook',
        teacher_config='rtmdet_plugin::rtmdet_x.py',
        teacher_ckpt='https://download.openmmlab.com/mmdetection/v3.0/rtmdet/rtmdet_x_8xb32-300e_coco/'
        'rtmdet_x_8xb32-300e_coco_20220715_230555-cc79b9ae.pth',
    ),
)
