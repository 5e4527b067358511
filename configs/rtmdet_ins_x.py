"""RTMDet-Ins-x: boxes and masks, 640 px, COCO.

    mim train mmdet configs/rtmdet_ins_x.py --launcher pytorch --gpus 8

Reported for this recipe (mmdet, 8 GPUs x 16 images): mask AP 44.6, box AP 52.4 on val2017.
102.70 M parameters, 166.11 GFLOPs (multiply-adds). The backbone isn't pretrained.
"""

_base_ = 'rtmdet_ins_l.py'

model = dict(
    backbone=dict(deepen_factor=1.33, widen_factor=1.25),
    neck=dict(in_channels=[320, 640, 1280], out_channels=320, num_csp_blocks=4),
    bbox_head=dict(in_channels=320, feat_channels=320),
)

# lr 0.002 belongs to a batch of 8 GPUs x 16.
train_dataloader = dict(batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=0.002))
auto_scale_lr = dict(base_batch_size=128)
