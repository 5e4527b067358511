"""RTMDet-x-P6: RTMDet-x with a fourth level of stride 64, 1,280 px, COCO.

    mim train mmdet configs/rtmdet_x_p6.py --launcher pytorch --gpus 4

Reported for this recipe (mmdet, 4 GPUs x 8 images): box AP 54.9 on val2017. 152.53 M parameters, 143.64 GFLOPs
(multiply-adds) at 640 px and 574.55 at 1,280 px. The backbone isn't pretrained.
"""

_base_ = 'rtmdet_x.py'

from rtmdet_plugin import set_input_size

set_input_size(_base_, 1280)

model = dict(
    data_preprocessor=dict(pad_size_divisor=64),  # the largest stride
    backbone=dict(arch='P6', out_indices=(2, 3, 4, 5)),
    neck=dict(in_channels=[320, 640, 960, 1280]),
    bbox_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64])),
)

train_dataloader = dict(batch_size=8, num_workers=20)
optim_wrapper = dict(optimizer=dict(lr=0.0005))  # 0.004 for a batch of 256
auto_scale_lr = dict(base_batch_size=32)
