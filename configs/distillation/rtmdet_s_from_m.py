"""RTMDet-s that learns from RTMDet-m until stage 2, 640 px, COCO.

    mim train mmdet configs/distillation/rtmdet_s_from_m.py --launcher pytorch --gpus 8

Reported by mmyolo for its recipe with mmrazor: box AP 45.7 on val2017, 44.6 without a teacher. Not measured here.
The teacher's weights are mmdet's and are downloaded once. To use others, add
`--cfg-options default_hooks.distillation.teacher_ckpt=FILE`. Checkpoints are those of a plain RTMDet-s.
"""

_base_ = '../rtmdet_s.py'

default_hooks = dict(
    distillation=dict(
        type='RTMDistillationHook',
        teacher_config='rtmdet_plugin::rtmdet_m.py',
        teacher_ckpt='https://download.openmmlab.com/mmdetection/v3.0/rtmdet/rtmdet_m_8xb32-300e_coco/'
        'rtmdet_m_8xb32-300e_coco_20220719_112220-229f527c.pth',
    ),
)
