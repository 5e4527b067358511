"""RTMDet-nano, 320 px, COCO's 80 classes.

    mim train mmdet configs/rtmdet_nano.py --launcher pytorch --gpus 8

The network of OpenMMLab's person detector (see rtmdet_nano_person.py) with 80 classes; no AP has been
reported for it. All convolutions are depthwise, and none is shared between the pyramid levels. The backbone
isn't pretrained.
"""

_base_ = 'rtmdet_tiny.py'

from rtmdet_plugin import set_input_size

set_input_size(_base_, 320)

model = dict(
    backbone=dict(deepen_factor=0.33, widen_factor=0.25, use_depthwise=True, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256], out_channels=64, use_depthwise=True),
    bbox_head=dict(in_channels=64, feat_channels=64, share_conv=False, use_depthwise=True),
)
