"""Soft classification cost; fixed centre region and 1 - GIoU. Reported: box AP 40.3."""

_base_ = 'dynamic_soft_label.py'

model = dict(train_cfg=dict(assigner=dict(type='RTMHardCostAssigner', soft_cls=True)))
