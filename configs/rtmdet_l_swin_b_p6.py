"""RTMDet-l-P6 with mmdet's Swin-B as its backbone: a fourth level of stride 64, 1,280 px, COCO.

    mim train mmdet configs/rtmdet_l_swin_b_p6.py --launcher pytorch --gpus 4

Reported for this recipe (mmdet, 4 GPUs x 16 images): box AP 56.4 on val2017. 239.14 M parameters, 211.30 GFLOPs
(multiply-adds, attention and linear layers included) at 640 px and 797.06 at 1,280 px.

Training starts from Microsoft's ImageNet-22k backbone at 384 px, which has no fifth stage and is downloaded once.
"""

_base_ = 'rtmdet_l_swin_b.py'

from rtmdet_plugin import set_input_size

set_input_size(_base_, 1280)

model = dict(
    data_preprocessor=dict(pad_size_divisor=64),  # the largest stride
    backbone=dict(
        depths=[2, 2, 18, 2, 1],
        num_heads=[4, 8, 16, 32, 64],
        strides=(4, 2, 2, 2, 2),
        out_indices=(1, 2, 3, 4),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
    bbox_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64])),
)

train_dataloader = dict(batch_size=16, num_workers=20)
auto_scale_lr = dict(base_batch_size=64)
