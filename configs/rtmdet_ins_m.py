"""RTMDet-Ins-m: boxes and masks, 640 px, COCO.

    mim train mmdet configs/rtmdet_ins_m.py --launcher pytorch --gpus 8

Reported for this recipe (mmdet, 8 GPUs x 32 images): mask AP 42.1, box AP 48.8 on val2017.
27.58 M parameters, 48.15 GFLOPs (multiply-adds). The backbone isn't pretrained.
"""

_base_ = 'rtmdet_ins_l.py'

model = dict(
    backbone=dict(deepen_factor=0.67, widen_factor=0.75),
    neck=dict(in_channels=[192, 384, 768], out_channels=192, num_csp_blocks=2),
    bbox_head=dict(in_channels=192, feat_channels=192),
)
