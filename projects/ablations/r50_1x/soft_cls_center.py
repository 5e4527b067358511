"""Soft classification cost and soft centre prior; 1 - GIoU. Reported: box AP 40.8."""

_base_ = 'dynamic_soft_label.py'

model = dict(train_cfg=dict(assigner=dict(type='RTMHardCostAssigner', soft_cls=True, soft_center=True)))
