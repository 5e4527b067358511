"""RTMDet-x, 640 px, COCO.

    mim train mmdet configs/rtmdet_x.py --launcher pytorch --gpus 8

Reported for this recipe (mmdet, 8 GPUs x 32 images): box AP 52.8 on val2017; 3.10 ms (TensorRT FP16, batch 1,
RTX 3090, without NMS). 94.86 M parameters, 141.19 GFLOPs (multiply-adds). The backbone isn't
pretrained.
"""

_base_ = 'rtmdet_l.py'

model = dict(
    backbone=dict(deepen_factor=1.33, widen_factor=1.25),
    neck=dict(in_channels=[320, 640, 1280], out_channels=320, num_csp_blocks=4),
    bbox_head=dict(in_channels=320, feat_channels=320),
)
