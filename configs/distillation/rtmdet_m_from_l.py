"""RTMDet-m that learns from RTMDet-l until stage 2, 640 px, COCO.

    mim train mmdet configs/distillation/rtmdet_m_from_l.py --launcher pytorch --gpus 8

Reported by mmyolo for its recipe with mmrazor: box AP 50.2 on val2017, 49.3 without a teacher. Not measured here.
The teacher's weights are mmdet's and are downloaded once. To use others, add
`--cfg-options default_hooks.distillation.teacher_ckpt=FILE`. Checkpoints are those of a plain RTMDet-m.
"""

_base_ = '../rtmdet_m.py'

default_hooks = dict(
    distillation=dict(
        type='RTMDistillationHook',
        teacher_config='rtmdet_plugin::rtmdet_l.py',
        teacher_ckpt='https://download.openmmlab.com/mmdetection/v3.0/rtmdet/rtmdet_l_8xb32-300e_coco/'
        'rtmdet_l_8xb32-300e_coco_20220719_112030-5a0be7c4.pth',
    ),
)
