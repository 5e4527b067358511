"""The demo's detector with half the channels, 8 epochs: a student for compare.py.

python projects/distillation/compare.py
"""

_base_ = '../demo/rtmdet_demo.py'

model = dict(
    backbone=dict(widen_factor=0.0625),
    neck=dict(in_channels=[16, 32, 64], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32),
)
train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(pipeline_switch=dict(num_last_epochs=3))
