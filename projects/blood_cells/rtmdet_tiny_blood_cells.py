"""RTMDet-tiny, 320 px, from scratch on blood cells (BCCD); two CPU cores.

    mim train mmdet projects/blood_cells/rtmdet_tiny_blood_cells.py --gpus 0

RTMDET_DATA names the folder with bccd/. The trained weights are used for the figures of INT8 (docs/int8.md), because
most convolutions of this size are ordinary ones. README.md in this folder has time and AP.
"""

_base_ = 'rtmdet_nano_blood_cells.py'

load_from = None

model = dict(
    backbone=dict(deepen_factor=0.167, widen_factor=0.375, use_depthwise=False),
    neck=dict(in_channels=[96, 192, 384], out_channels=96, use_depthwise=False),
    bbox_head=dict(in_channels=96, feat_channels=96, use_depthwise=False, share_conv=True),
)

train_cfg = dict(max_epochs=60, val_interval=15)
optim_wrapper = dict(type='RTMBFloat16OptimWrapper', optimizer=dict(lr=0.004))
default_hooks = dict(pipeline_switch=dict(num_last_epochs=10, val_interval=5))
custom_hooks = [dict(type='RTMChannelsLastHook')]
